"""The configuration: `secure-net.toml`, read and checked, with errors that name the key's path.

`load` reads a file, lets the environment override it (``SECURE_NET_RPC__LISTEN`` is ``rpc.listen``;
lists are separated by commas) and checks the whole. Whatever is wrong is a `ConfigurationError`: an
unknown key or table, a wrong type, an impossible combination. Paths in the file are relative to the
folder it stands in. A service whose table is missing does not run.

What a table may hold stands in `secure_net.tables`. Nothing here opens what the configuration points at:
that is `secure_net.daemon.posture`'s task.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from secure_net.addresses import Address, listen_addresses
from secure_net.errors import ConfigurationError
from secure_net.http.site import site_of
from secure_net.identity.names import address as ip_address
from secure_net.identity.names import is_host_name, is_name
from secure_net.identity.policy import Scope
from secure_net.limits import Limits
from secure_net.tables import (
    OTHER_TABLES,
    TABLES,
    AdminTable,
    ChatTable,
    ClientCertificates,
    ClientTable,
    EchoTable,
    FilesTable,
    IdentityTable,
    Listening,
    LogTable,
    RPCTable,
    ServerTable,
    ServiceTable,
    Table,
    TLSTable,
    TLSVersion,
)

FILE_NAME = "secure-net.toml"
SYSTEM_FILE = Path("/etc/secure-net") / FILE_NAME
ENVIRONMENT_PREFIX = "SECURE_NET_"


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, checked. `file` is None where nothing was found and the defaults stand."""

    file: Path | None
    base: Path  # what relative paths are relative to
    server: ServerTable = ServerTable()
    tls: TLSTable = TLSTable()
    rpc: RPCTable | None = None
    files: FilesTable | None = None
    echo: EchoTable | None = None
    chat: ChatTable | None = None
    admin: AdminTable | None = None
    identities: dict[str, IdentityTable] = {}
    limits: Limits = Limits()
    client: ClientTable = ClientTable()
    log: LogTable = LogTable()

    def path(self, written: str) -> Path:
        """A path as the file means it: relative to the folder the file stands in."""
        return self.base / Path(written).expanduser()

    @property
    def state_directory(self) -> Path:
        return self.path(self.server.state)

    @property
    def tls_directory(self) -> Path:
        return self.path(self.tls.directory)

    @property
    def services(self) -> dict[str, Listening]:
        """The services that run, by name; `admin` last, as it stops last."""
        tables: tuple[tuple[str, ServiceTable | None, str], ...] = (
            ("rpc", self.rpc, "listen"),
            ("files", self.files, "listen"),
            ("echo", self.echo, "listen"),
            ("chat", self.chat, "listen"),
            ("chat-web", self.chat, "web"),
            ("admin", self.admin, "listen"),
        )
        listening = {name: Listening(table, key) for name, table, key in tables if table is not None}
        return {name: found for name, found in listening.items() if found.key == "listen" or found.written}

    def addresses(self, service: str) -> tuple[Address, ...]:
        return listen_addresses(self.services[service].written, self.listen_key(service))

    def listen_key(self, service: str) -> str:
        """The key that says where `service` listens, such as ``chat.web``."""
        return f"{service.partition('-')[0]}.{self.services[service].key}"

    def minimum(self, service: str) -> TLSVersion:
        return self.services[service].table.minimum or self.tls.minimum

    def client_certificates(self, service: str) -> ClientCertificates:
        return self.services[service].table.client_certificates or self.tls.client_certificates


# --- finding and reading --------------------------------------------------------------------------


def find(flag: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration that counts: `flag`, else $SECURE_NET_CONFIG, else here, else under /etc.

    What was named must exist; of the other two the first that exists is taken, None if neither does.
    """
    named = flag or (Path(environ["SECURE_NET_CONFIG"]) if environ.get("SECURE_NET_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            raise ConfigurationError(str(named), "no such file", "run `secure-net init` to write one")
        return named
    return next((path for path in (Path(FILE_NAME), SYSTEM_FILE) if path.is_file()), None)


def discover(flag: Path | None = None, environ: Mapping[str, str] = os.environ) -> Configuration:
    """`find` and `load`. Raises `ConfigurationError` that names `secure-net init` when there is none."""
    path = find(flag, environ)
    if path is None:
        raise not_found()
    return load(path, environ)


def not_found() -> ConfigurationError:
    """There is none; names `secure-net init`."""
    return ConfigurationError(
        FILE_NAME,
        f"no configuration here, in $SECURE_NET_CONFIG or at {SYSTEM_FILE}",
        "run `secure-net init` to write one, or name it by --config",
    )


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read and check a file. Raises `ConfigurationError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(str(path), error.strerror or "cannot be read") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), "not UTF-8 text", f"look at byte {error.start}") from error
    return parse(text, path.resolve(), environ)


def parse(
    text: str, file: Path | None, environ: Mapping[str, str], base: Path | None = None
) -> Configuration:
    """Check a configuration's text. `file` is where it came from, None when it did not come from one."""
    where = str(file or "configuration")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(where, f"not TOML: {error}") from error
    known = (*TABLES, *OTHER_TABLES)
    for name, table in document.items():
        if name not in known:
            raise ConfigurationError(name, "unknown table", _suggestion(name, known))
        if not isinstance(table, dict):
            raise ConfigurationError(name, "must be a table", f"write it as [{name}]")
    _override(document, environ)
    tables: dict[str, Any] = {
        name: _convert(document[name], struct, name) for name, struct in TABLES.items() if name in document
    }
    configuration = Configuration(
        file=file,
        base=base or (file.parent if file else Path.cwd()),
        identities=_identities(document.get("identities", {})),
        limits=_limits(document.get("limits", {})),
        **tables,
    )
    _check(configuration)
    return configuration


def _override(document: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Lay the environment's values over the file's: SECURE_NET_TABLE__KEY."""
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or "__" not in variable:
            continue
        table, _, key = variable[len(ENVIRONMENT_PREFIX) :].lower().partition("__")
        if table == "limits":
            document.setdefault(table, {})[key] = _number(value, variable)
            continue
        if table not in TABLES:
            raise ConfigurationError(variable, f"there is no table [{table}] to override", _known(TABLES))
        fields = {field.name: field for field in msgspec.structs.fields(TABLES[table])}
        if key not in fields:
            raise ConfigurationError(variable, f"[{table}] has no key `{key}`", _suggestion(key, fields))
        document.setdefault(table, {})[key] = _typed(value, fields[key].type, variable)


def _typed(value: str, expected: Any, variable: str) -> Any:
    """An environment variable's text as the type its key has."""
    if expected in (tuple[str, ...], str | tuple[str, ...]):
        return [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(value, expected, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(variable, _lower(str(error))) from error


def _number(value: str, variable: str) -> int | float:
    try:
        return msgspec.convert(value, int | float, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(variable, f"not a number: {value!r}") from error


# --- the tables -----------------------------------------------------------------------------------

_PLACE = re.compile(r"^(?P<problem>.*?)(?: - at `\$(?P<place>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"^Object (?P<kind>contains unknown|missing required) field `(?P<field>[^`]*)`$")


T = TypeVar("T", bound=Table)


def _convert(table: Any, struct: type[T], path: str) -> T:
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as error:
        raise _explained(str(error), struct, path) from error


def _explained(message: str, struct: type[Table], path: str) -> ConfigurationError:
    """msgspec's message as the key's path and what is wrong there."""
    match = _PLACE.match(message)
    problem = match["problem"] if match else message
    where = path + ((match["place"] or "") if match else "")
    field = _FIELD.match(problem)
    if field is None:
        return ConfigurationError(where, _lower(problem))
    where = f"{where}.{field['field']}"
    if field["kind"] == "missing required":
        return ConfigurationError(where, "is required")
    inner = _struct_at(struct, (match["place"] or "") if match else "")
    names = [item.name for item in msgspec.structs.fields(inner)]
    return ConfigurationError(where, "unknown key", _suggestion(field["field"], names))


def _struct_at(struct: type[Table], place: str) -> type[Table]:
    """The struct that `place`, such as ``.roots[0]``, is about."""
    for name in re.findall(r"\.(\w+)", place):
        kinds = next(get_args(item.type) for item in msgspec.structs.fields(struct) if item.name == name)
        struct = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Table)), struct)
    return struct


def _identities(table: dict[str, Any]) -> dict[str, IdentityTable]:
    identities = {}
    for name, entry in table.items():
        path = f"identities.{name}"
        if not is_name(name):
            raise ConfigurationError(path, "not a name", "a name matches [a-z0-9][a-z0-9._-]{0,63}")
        identities[name] = _convert(entry, IdentityTable, path)
        for index, scope in enumerate(identities[name].scopes):
            try:
                Scope.parse(scope)
            except ValueError as error:
                raise ConfigurationError(f"{path}.scopes[{index}]", str(error)) from error
    return identities


def _limits(table: dict[str, Any]) -> Limits:
    """``[limits]``: flat here, grouped in `limits.py`; every key keeps the type of its default."""
    default = Limits()
    groups: dict[str, Any] = {
        group.name: getattr(default, group.name) for group in dataclasses.fields(Limits)
    }
    owner = {key.name: name for name, group in groups.items() for key in dataclasses.fields(group)}
    for key, value in table.items():
        if key not in owner:
            raise ConfigurationError(f"limits.{key}", "unknown key", _suggestion(key, owner))
        group = groups[owner[key]]
        kind = type(getattr(group, key))
        groups[owner[key]] = dataclasses.replace(group, **{key: _limit(key, value, kind)})
    return Limits(**groups)


def _limit(key: str, value: Any, kind: type[int] | type[float]) -> int | float:
    unit = key.rpartition("_")[2]
    try:
        number = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"limits.{key}", _lower(str(error)), f"give a number ({unit})") from error
    if not (math.isfinite(number) and number > 0):
        raise ConfigurationError(f"limits.{key}", f"{value} is no limit", f"give a number above 0 ({unit})")
    return number


# --- what must hold between keys --------------------------------------------------------------------


def _check(configuration: Configuration) -> None:
    names = configuration.server.names
    if not names:
        raise ConfigurationError(
            "server.names", "no name", 'the first is the token audience; try ["localhost"]'
        )
    for index, name in enumerate(names):
        if not is_host_name(name) and ip_address(name) is None:
            problem = f"{name!r} is neither a DNS name in lower case nor an address"
            raise ConfigurationError(f"server.names[{index}]", problem)
    if not is_host_name(names[0]):
        raise ConfigurationError("server.names[0]", f"{names[0]} is an address", "put a host name first")
    _check_addresses(configuration)
    _check_services(configuration)
    if configuration.client.token and configuration.client.token_file:
        raise ConfigurationError("client.token", "given twice", "keep either `token` or `token_file`")
    _check_limits(configuration.limits)


def _check_addresses(configuration: Configuration) -> None:
    taken: dict[Address, str] = {}
    for service in configuration.services:
        key = configuration.listen_key(service)
        for address in configuration.addresses(service):
            if address.port and address in taken:
                problem = f"{address} is taken by {taken[address]}"
                raise ConfigurationError(key, problem, "give each service its own port")
            taken[address] = key


def _check_services(configuration: Configuration) -> None:
    for index, name in enumerate(configuration.rpc.services if configuration.rpc else ()):
        if not _SERVICE.fullmatch(name):
            cure = "write it as module:attribute, such as examples.services:registry"
            raise ConfigurationError(f"rpc.services[{index}]", f"{name!r} names no registry", cure)
    if configuration.files is not None:
        site_of(configuration.files, configuration.base)
    if configuration.echo and configuration.client_certificates("echo") == "off":
        problem = "off, while a certificate is the one credential that echo has room for"
        raise ConfigurationError("echo.client_certificates", problem, 'set "required"')
    for index, glob in enumerate(configuration.chat.live if configuration.chat else ()):
        try:
            Scope.parse(f"chat:live:{glob}")
        except ValueError as error:
            raise ConfigurationError(f"chat.live[{index}]", str(error)) from error
    for index, origin in enumerate(configuration.chat.origins if configuration.chat else ()):
        if not _ORIGIN.fullmatch(origin):
            cure = "write it as https://chat.example.org or https://chat.example.org:8446"
            raise ConfigurationError(f"chat.origins[{index}]", f"{origin!r} is not an origin", cure)


# RFC 6454, section 6.2, as browsers write it: in lower case, and without the port that https has anyway.
_ORIGIN = re.compile(r"https://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?!443$)[0-9]{1,5})?", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


_AROUND_A_BODY = 512  # bytes: what a message says besides: room, sender, sequence number, time


def _check_limits(limits: Limits) -> None:
    connection, rpc, chat = limits.connection, limits.rpc, limits.chat
    conditions = (
        (connection.overload_percent <= 100, "overload_percent", "above 100"),
        (connection.overload_divisor_ratio >= 1, "overload_divisor_ratio", "below 1"),
        (
            connection.handshakes_random_count <= connection.handshakes_count,
            "handshakes_random_count",
            "above limits.handshakes_count",
        ),
        (
            connection.outbox_bytes <= connection.buffered_bytes,
            "outbox_bytes",
            "above limits.buffered_bytes, the budget of the whole daemon",
        ),
        (
            rpc.rpc_answer_bytes <= connection.outbox_bytes,
            "rpc_answer_bytes",
            "above limits.outbox_bytes, which must hold one whole answer",
        ),
        (
            chat.chat_body_bytes <= limits.frame.frame_bytes - _AROUND_A_BODY,
            "chat_body_bytes",
            f"less than {_AROUND_A_BODY} below limits.frame_bytes, so that its frame would not fit",
        ),
        (
            chat.chat_outbox_bytes <= connection.outbox_bytes,
            "chat_outbox_bytes",
            "above limits.outbox_bytes, which would drop the member first",
        ),
        (rpc.rpc_body_bytes <= connection.buffered_bytes, "rpc_body_bytes", "above limits.buffered_bytes"),
    )
    for holds, key, problem in conditions:
        if not holds:
            raise ConfigurationError(f"limits.{key}", problem, "lower one or raise the other")


# --- words ----------------------------------------------------------------------------------------


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _known(names: Iterable[str]) -> str:
    return "known: " + ", ".join(sorted(names))


def _suggestion(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"did you mean `{close[0]}`?" if close else _known(names)
