"""Type hints read, and held to."""

from __future__ import annotations

import collections.abc
import datetime
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from secure_net.errors import ConfigurationError
from secure_net.rpc.signature import Signature, WrongParametersError, signature_of

if TYPE_CHECKING:
    from decimal import Decimal

NOW = datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC)


class Caller:
    pass


def read(function: Callable[..., Any], *, allow_nil: bool = True) -> Signature:
    return signature_of(function, Caller, allow_nil=allow_nil, where="rpc method a")


def of(hint: Any) -> Signature:
    def method(value: Any) -> None:
        del value

    method.__annotations__["value"] = hint
    return read(method)


@pytest.mark.parametrize(
    ("hint", "name", "fits", "unfit"),
    [
        (int, "int", [0, 2**40], [True, 1.0, "1", None]),
        (bool, "boolean", [True], [1, "1"]),
        (str, "string", [""], [b"", 1]),
        (bytes, "base64", [b""], ["", []]),
        (datetime.datetime, "dateTime.iso8601", [NOW], ["20260131T00:00:00"]),
        (Any, "mixed", [1, None, [{}]], []),
        (object, "mixed", [1, None], []),
        (list, "array", [[1, "a"]], [{}, "", (1,)]),
        (list[Any], "array", [[1, "a"]], [{}]),
        (list[int], "array", [[], [1]], [[1, "a"], [True], {}]),
        (typing.List[int], "array", [[1]], [["a"]]),  # noqa: UP006 - the old spelling counts too
        (collections.abc.Sequence[str], "array", [["a"]], [[1], "a"]),
        (dict, "struct", [{"a": 1}], [[]]),
        (dict[str, Any], "struct", [{"a": 1}], [[]]),
        (dict[str, int], "struct", [{}, {"a": 1}], [{"a": "b"}, []]),
        (collections.abc.Mapping[str, bool], "struct", [{"a": True}], [{"a": 1}]),
        (list[dict[str, list[float]]], "array", [[{"a": [1.5]}]], [[{"a": ["b"]}]]),
        (int | None, "int", [1, None], ["a"]),
        (typing.Optional[str], "string", ["a", None], [1]),  # noqa: UP045
        (int | str, "mixed", [1, "a"], [None, 1.5]),
        (list[int | None], "array", [[1, None]], [["a"]]),
        (None, "nil", [None], [0]),
        (typing.Annotated[int, "seconds"], "int", [1], ["a"]),
    ],
)
def test_hints(hint: Any, name: str, fits: list[Any], unfit: list[Any]) -> None:
    signature = of(hint)
    assert signature.names == (name,)
    for value in fits:
        assert signature.arguments([value]) == [value]
    for value in unfit:
        with pytest.raises(WrongParametersError):
            signature.arguments([value])


def test_a_float_takes_an_int_and_makes_it_one() -> None:
    (value,) = of(float).arguments([2])
    assert type(value) is float
    assert of(list[float]).arguments([[1, 2.5]]) == [[1.0, 2.5]]
    assert of(float).arguments([2.5]) == [2.5]
    for wrong in (True, "2", None):
        with pytest.raises(WrongParametersError):
            of(float).arguments([wrong])


def test_defaults_may_be_left_out() -> None:
    def method(a: int, b: str = "x", c: bool = False) -> list[int]:
        return [a, len(b), c]

    signature = read(method)
    for params in ([1], [1, "a"], [1, "a", True]):
        assert signature.arguments(params) == params
    for wrong in ([], [1, "a", True, 1], ["a"], [1, 1]):
        with pytest.raises(WrongParametersError):
            signature.arguments(wrong)
    assert signature.rows() == [
        ["array", "int"],
        ["array", "int", "string"],
        ["array", "int", "string", "boolean"],
    ]


def test_a_method_without_parameters() -> None:
    def method() -> float:
        return 1.0

    signature = read(method)
    assert signature.arguments([]) == []
    assert signature.rows() == [["double"]]
    with pytest.raises(WrongParametersError):
        signature.arguments([1])


def test_the_caller_is_no_part_of_the_signature() -> None:
    def method(caller: Caller, value: int) -> int:
        return value if caller else 0

    signature = read(method)
    assert signature.wants_caller
    assert signature.rows() == [["int", "int"]]
    assert not of(int).wants_caller


def test_a_bound_method_has_no_self() -> None:
    class Service:
        def double(self, value: int) -> int:
            return 2 * value

    assert read(Service().double).rows() == [["int", "int"]]


@pytest.mark.parametrize("hint", [tuple, tuple[int, str], tuple[int, ...], tuple[tuple[int, int], ...]])
def test_a_result_may_be_a_tuple(hint: Any) -> None:
    def method() -> Any:
        return ()

    method.__annotations__["return"] = hint
    assert read(method).result == "array"
    with pytest.raises(ConfigurationError, match="cannot carry"):
        of(hint)


@pytest.mark.parametrize(
    "hint",
    [
        set,
        set[int],
        complex,
        datetime.date,
        dict[int, str],
        dict[str, set[int]],
        list[complex],
        int | complex,
        tuple[complex],
        typing.Literal["a"],
        Signature,
        type,
        [],
    ],
)
def test_what_xml_rpc_cannot_carry_is_refused(hint: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"rpc method a: XML-RPC cannot carry the type of 'value'"):
        of(hint)


def test_a_result_that_xml_rpc_cannot_carry_is_refused() -> None:
    def method() -> tuple[complex]:
        return (1j,)

    with pytest.raises(ConfigurationError, match="type of 'return'"):
        read(method)


def test_a_parameter_without_hint_is_refused() -> None:
    def method(value) -> None:  # type: ignore[no-untyped-def]  # that it has none is the point
        del value

    with pytest.raises(ConfigurationError, match="'value' has no type hint; annotate it"):
        read(method)


def test_a_result_without_hint_is_refused() -> None:
    def method(value: int):  # type: ignore[no-untyped-def]  # that it has none is the point
        del value

    with pytest.raises(ConfigurationError, match="'return' has no type hint"):
        read(method)


def test_parameters_that_are_not_positional_are_refused() -> None:
    def stars(*values: int) -> int:
        return len(values)

    def named(*, value: int) -> int:
        return value

    def more(**values: int) -> int:
        return len(values)

    for function in (stars, named, more):
        with pytest.raises(ConfigurationError, match="is not positional"):
            read(function)


def test_a_hint_that_is_imported_for_the_type_checker_alone_is_refused() -> None:
    def method(value: Decimal) -> int:
        return int(value)

    with pytest.raises(ConfigurationError, match="'Decimal', which is unknown; import it"):
        read(method)


@pytest.mark.parametrize("hint", [None, int | None, list[int | None], dict[str, None]])
def test_none_is_refused_where_nil_is_not_allowed(hint: Any) -> None:
    def parameter(value: Any) -> int:
        return int(value)

    def result() -> Any:
        return None

    parameter.__annotations__["value"] = hint
    result.__annotations__["return"] = hint
    for function in (parameter, result):
        with pytest.raises(ConfigurationError, match="may be None"):
            read(function, allow_nil=False)
