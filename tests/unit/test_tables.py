from __future__ import annotations

import msgspec
import pytest

from secure_net.tables import OTHER_TABLES, SERVICE_TABLES, TABLES, ChatTable, EchoTable, Listening


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_a_default_for_every_key_and_takes_no_other(name: str) -> None:
    table = msgspec.convert({}, TABLES[name])
    assert msgspec.convert(msgspec.to_builtins(table), TABLES[name]) == table
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"no_such_key": 1}, TABLES[name])


def test_services_are_tables_and_names_are_not() -> None:
    assert set(SERVICE_TABLES) <= set(TABLES)
    assert not set(OTHER_TABLES) & set(TABLES)


def test_where_a_service_listens() -> None:
    chat = ChatTable(listen="a:1", web=("b:2", "c:3"))
    assert Listening(chat, "listen").written == "a:1"
    assert Listening(chat, "web").written == ("b:2", "c:3")
    assert Listening(EchoTable(), "listen").written == "127.0.0.1:9800"
