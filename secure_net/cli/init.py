"""``secure-net init``: everything a first `serve` needs, and nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import click

from secure_net.cli.output import Output, json_option

_TOML = """\
# The configuration of secure_net. Paths are relative to this file. `secure-net check` finds what is wrong
# or unsafe, `secure-net reload` makes a running daemon read it anew. A service whose table is missing does
# not run. The environment overrides a key: SECURE_NET_RPC__LISTEN is rpc.listen.

[server]
names = [{names}]  # names the server's certificate bears; the first is the token audience
state = "state"  # the daemon's own: revocations, audit trail, control socket
drain_seconds = 35  # how long calls under way may take when the daemon stops

[tls]
directory = "certs"  # ca.pem, crl.pem, server.pem, server.key, token-keys.json
minimum = "1.3"  # or "1.2", for old clients
client_certificates = "optional"  # or "required", "off"; any service may override it

[rpc]
listen = "127.0.0.1:8443"  # the path is /RPC2; may be a list, IPv6 as "[::1]:8443"
services = ["{services}"]  # your registries, as module:attribute; modules beside this file are found

[files]
listen = "127.0.0.1:8444"  # static files

[[files.roots]]
path = "/"
directory = "public"
access = "scope"  # who has files:read:/...; or "public", for everybody

[echo]
listen = "127.0.0.1:9800"  # framed messages, each sent back
engine = "asyncio"  # or "threads"

[chat]
listen = "127.0.0.1:9802"  # rooms, over the same frames
web = "127.0.0.1:8446"  # the same rooms in a browser
live = []  # globs of rooms that keep no history, such as "live.*"

[admin]
listen = "127.0.0.1:9443"  # /status /metrics /livez /readyz

# What the certificates of a name may do. A token has its own scopes, and never more than these.
[identities.admin]
scopes = ["*:*:**"]

[identities.metrics]
scopes = ["admin:read:metrics"]

[identities.demo]
scopes = ["rpc:call:**", "files:read:/**", "echo:use", "chat:publish:**", "chat:subscribe:**"]

# Every size, count and deadline has a default; docs/server-behaviour.md lists them.
[limits]
# connections_per_source_count = 256
# rpc_body_bytes = 1048576
"""

_INDEX = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>secure_net</title>
<p>What stands in this folder is served to whoever may read it.</p>
</html>
"""

_SERVICES = '''\
"""The functions that callers of this daemon may call. Edit it, then restart `secure-net serve`."""

from datetime import UTC, datetime

from secure_net import Registry, inline

registry = Registry()


@registry.method("math.double")
@inline
def double(value: int) -> int:
    """Twice the value."""
    return 2 * value


@registry.method("time.currentTime")
@inline
def current_time() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)
'''


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--name", "names", multiple=True, help="A name the server goes by (repeatable; localhost always)."
)
@json_option
def init(directory: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Write a configuration and a private CA.

    In DIRECTORY (default: here): secure-net.toml, ca/ (the CA's and the token signing key; it may be taken
    offline), certs/ with certificates for admin, metrics and demo, public/ for files, and state/. Refuses to
    overwrite.
    """
    written = write(directory, names or ("localhost",))
    output = Output(as_json=as_json)
    output.json({"written": [str(path) for path in written]})
    for path in written:
        output.line(f"wrote {path}")
    output.line()
    output.line(f"next: {_next_step(directory)}")


def _next_step(directory: Path) -> str:
    return "secure-net serve" if directory == Path() else f"cd {directory} && secure-net serve"


def write(directory: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    """Write it all, or nothing. Raises `ConfigurationError` or `StateFullError`."""
    from secure_net.clock import SystemWall
    from secure_net.config import FILE_NAME
    from secure_net.identity import files
    from secure_net.identity.setup import create_development_pki

    in_checkout = (directory / "examples" / "services.py").is_file()
    texts = {
        FILE_NAME: _TOML.format(
            names=", ".join(f'"{name}"' for name in names),
            services="examples.services:registry" if in_checkout else "services:registry",
        )
    }
    if not in_checkout and not (directory / "services.py").exists():
        texts["services.py"] = _SERVICES
    if not (directory / "public").exists():
        texts["public/index.html"] = _INDEX
    made: list[Path] = []
    try:
        with files.told_clearly(directory, "choose another directory"):
            directory.mkdir(parents=True, exist_ok=True)
            if "public/index.html" in texts:
                (directory / "public").mkdir()
                made.append(directory / "public")
        for name, text in texts.items():
            files.write_new(directory / name, text.encode(), files.PUBLIC, "choose another directory")
            made.append(directory / name)
        create_development_pki(directory, names, SystemWall())
        with files.told_clearly(directory / "state"):
            (directory / "state").mkdir(mode=0o700, exist_ok=True)
    except BaseException:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
    return (*made, directory / "ca", directory / "certs", directory / "state")
