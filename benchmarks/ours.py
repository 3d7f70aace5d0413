"""secure_net as it is deployed: a directory made by `secure-net init`, and the real `secure-net serve`.

Everything is on that a deployment has on: TLS 1.3 with client certificates asked for, authentication, policy
(the token's scopes and those of its subject's entry), limits, metrics, the audit trail. RPC's load sends
`Authorization: Bearer` with every call, chat's its token in `hello`; echo's shows a client certificate.
"""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from benchmarks.processes import BenchmarkError, environment
from benchmarks.subjects import Site, Subject

NAME = "secure_net"
IDENTITY = "bench"
RPC_SCOPES = ("rpc:call:math.*", "rpc:call:bench.*")
ECHO_SCOPES = ("echo:use",)
CHAT_SCOPES = ("chat:publish:bench.*", "chat:subscribe:bench.*")
FILES_SCOPES = ("files:read:/**",)
CLI = (sys.executable, "-c", "from secure_net.cli.main import main; main()")  # what the console script does
CONFIGURATION = """\
[server]
names = ["localhost"]
state = "state"
[tls]
directory = "certs"
{service}[admin]
listen = "127.0.0.1:{admin_port}"
[identities.{identity}]
scopes = [{scopes}]
[limits]
{limits}
"""
# The table of the service that is measured.
RPC = """\
[rpc]
listen = "127.0.0.1:{port}"
services = ["services:registry", "benchmarks.services:registry"]
"""
ECHO = """\
[echo]
listen = "127.0.0.1:{port}"
client_certificates = "required"
"""
ECHO_THREADS = f'{ECHO}engine = "threads"\n'
CHAT = """\
[chat]
listen = "127.0.0.1:{port}"
"""
CHAT_LIVE = f'{CHAT}live = ["bench.*"]\n'
FILES = """\
[files]
listen = "127.0.0.1:{{port}}"
[[files.roots]]
path = "/"
directory = "{directory}"
access = "scope"
listing = true
"""


def free_port() -> int:
    """A port that nobody has, as far as can be known before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Deployment:
    """A directory made by `secure-net init`. The peers use its server certificate too."""

    def __init__(
        self,
        directory: Path,
        limits: Mapping[str, float] | None = None,
        scopes: Sequence[str] = RPC_SCOPES,
    ) -> None:
        """`limits`: entries of `[limits]` other than the defaults, where a benchmark must pass them.

        `scopes`: what the token and the client certificate of the load may do, and nothing else.
        """
        self.directory = directory
        self._limits, self._scopes = dict(limits or {}), tuple(scopes)
        self._run("init", str(directory))
        self.authority = directory / "certs" / "ca.pem"
        self.certificate = directory / "certs" / "server.pem"
        self.key = self._key()
        self.configure(free_port())
        wanted = [argument for scope in self._scopes for argument in ("--scope", scope)]
        self.token = self._run("token", "issue", IDENTITY, *wanted).strip()
        self._run("ca", "issue", "client", IDENTITY)
        self.client_certificate = directory / "certs" / "clients" / f"{IDENTITY}.pem"

    def configure(self, port: int, service: str = RPC) -> None:
        """Write the configuration anew, with this table for the service, which is on this port."""
        text = CONFIGURATION.format(
            service=service.format(port=port),
            admin_port=free_port(),
            identity=IDENTITY,
            scopes=", ".join(f'"{scope}"' for scope in self._scopes),
            limits="\n".join(f"{name} = {value}" for name, value in self._limits.items()),
        )
        (self.directory / "secure-net.toml").write_text(text, encoding="ascii")

    def serve(self, site: Site, service: str = RPC) -> Sequence[str]:
        """The command that serves at `site`, configured for it."""
        self.configure(site.port, service)
        return self.cli("serve")

    def cli(self, *arguments: str) -> list[str]:
        return [*CLI, "--config", str(self.directory / "secure-net.toml"), *arguments]

    def subject(self) -> Subject:
        return Subject(
            NAME,
            "ours",
            "token authentication, policy, limits, metrics, audit trail, defusedxml: all on",
            self.serve,
            headers={"Content-Type": "text/xml", "Authorization": f"Bearer {self.token}"},
            distribution="secure-net",
        )

    def files(self, content: Path) -> Subject:
        """Ours with files: what lies in `content`, for who has the scope."""
        return Subject(
            NAME,
            "ours",
            "token authentication, policy, limits, metrics, audit trail, precompressed twins: all on",
            functools.partial(self.serve, service=FILES.format(directory=content)),
            headers={"Authorization": f"Bearer {self.token}"},
            distribution="secure-net",
        )

    def messaging(self, name: str, service: str, dialect: str, setup: str) -> Subject:
        """Ours with echo or chat; `service` is its table of the configuration."""
        return Subject(
            name,
            "ours",
            setup,
            functools.partial(self.serve, service=service),
            distribution="secure-net",
            dialect=dialect,
        )

    def _run(self, *arguments: str) -> str:
        command = [*CLI, *arguments] if arguments[0] == "init" else self.cli(*arguments)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment(),
            cwd=self.directory,
        )
        if done.returncode:
            raise BenchmarkError(f"secure-net {arguments[0]} exits {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _key(self) -> Path:
        """The server's key as PKCS #8, the one form that every peer reads (granian no other)."""
        key = serialization.load_pem_private_key((self.directory / "certs" / "server.key").read_bytes(), None)
        path = self.directory / "peers.key"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path
