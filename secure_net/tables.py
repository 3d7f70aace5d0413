"""The tables of `secure-net.toml`: one struct each, with every key, its type and its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

ClientCertificates = Literal["off", "optional", "required"]
TLSVersion = Literal["1.2", "1.3"]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: an unknown key is an error."""


class ServerTable(Table, frozen=True):
    """``[server]``: what concerns the daemon as a whole."""

    names: tuple[str, ...] = ("localhost",)  # the first is the token audience and the trust domain
    state: str = "state"
    drain_seconds: Seconds = 35.0

    @property
    def audience(self) -> str:
        return self.names[0]


class TLSTable(Table, frozen=True):
    """``[tls]``: the certificates, and the defaults every service may override."""

    directory: str = "certs"
    minimum: TLSVersion = "1.3"
    client_certificates: ClientCertificates = "optional"


class RPCTable(Table, frozen=True):
    """``[rpc]``: XML-RPC over HTTPS, under the path /RPC2."""

    listen: str | tuple[str, ...] = "127.0.0.1:8443"
    services: tuple[str, ...] = ()  # "module:attribute", each a Registry
    minimum: TLSVersion | None = None
    client_certificates: ClientCertificates | None = None


class EchoTable(Table, frozen=True):
    """``[echo]``: every message back, framed. A certificate is the one credential it has room for."""

    listen: str | tuple[str, ...] = "127.0.0.1:9800"
    engine: Literal["asyncio", "threads"] = "asyncio"
    minimum: TLSVersion | None = None
    client_certificates: ClientCertificates | None = "required"


class ChatTable(Table, frozen=True):
    """``[chat]``: rooms, by frames and, where `web` is given, for browsers."""

    listen: str | tuple[str, ...] = "127.0.0.1:9802"
    web: str | tuple[str, ...] = ""
    origins: tuple[str, ...] = ()  # of the page, where a port is mapped: "https://chat.example.org"
    live: tuple[str, ...] = ()  # globs of rooms without history; `*` stays between dots, `**` does not
    minimum: TLSVersion | None = None
    client_certificates: ClientCertificates | None = None


class FilesRootTable(Table, frozen=True):
    """``[[files.roots]]``: one folder, under one URL prefix."""

    path: str
    directory: str
    access: Literal["scope", "public"] = "scope"  # files:read:/path/..., or everybody
    index: tuple[str, ...] = ("index.html",)
    listing: bool = False  # of folders without an index
    not_found: str = ""  # a file below `directory` that is sent where there is none
    precompressed: bool = True  # NAME.br and NAME.gz are sent to those who take them


class FilesCacheTable(Table, frozen=True):
    """``[[files.cache]]``: `Cache-Control` of the paths that match; the first rule counts."""

    pattern: str  # as in scopes: `*` stays between slashes, `**` does not
    control: str


class FilesTable(Table, frozen=True):
    """``[files]``: static files over HTTPS."""

    listen: str | tuple[str, ...] = "127.0.0.1:8444"
    roots: tuple[FilesRootTable, ...] = ()
    cache: tuple[FilesCacheTable, ...] = ()
    content_security_policy: str = "sandbox"  # of every file: no script of theirs runs in our name
    hsts_seconds: Annotated[int, msgspec.Meta(ge=0)] = 0  # never said to who asks for localhost or an address
    minimum: TLSVersion | None = None
    client_certificates: ClientCertificates | None = None


class AdminTable(Table, frozen=True):
    """``[admin]``: /status, /metrics, /livez and /readyz."""

    listen: str | tuple[str, ...] = "127.0.0.1:9443"
    minimum: TLSVersion | None = None
    client_certificates: ClientCertificates | None = None


class IdentityTable(Table, frozen=True):
    """``[identities.NAME]``: what the certificates and passwords of NAME may do."""

    scopes: tuple[str, ...]


class ClientTable(Table, frozen=True):
    """``[client]``: where the client commands go, and as whom. A flag overrides each of them."""

    url: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""  # beside `cert` as `.key` when absent
    token: str = ""
    token_file: str = ""


class LogTable(Table, frozen=True):
    """``[log]``: what goes to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"  # auto: text on a terminal, else JSON


ServiceTable = RPCTable | FilesTable | EchoTable | ChatTable | AdminTable


class Listening(NamedTuple):
    """A service: its table, and the key in it that says where the service listens."""

    table: ServiceTable
    key: str

    @property
    def written(self) -> str | tuple[str, ...]:
        return (
            self.table.web if isinstance(self.table, ChatTable) and self.key == "web" else self.table.listen
        )


TABLES: Mapping[str, type[Table]] = {
    "server": ServerTable,
    "tls": TLSTable,
    "rpc": RPCTable,
    "files": FilesTable,
    "echo": EchoTable,
    "chat": ChatTable,
    "admin": AdminTable,
    "client": ClientTable,
    "log": LogTable,
}
SERVICE_TABLES = ("rpc", "files", "echo", "chat", "admin")
OTHER_TABLES = ("identities", "limits")  # their keys are names, or those of `limits.py`
