"""The plan of the house, held over the syntax trees: what is pure, where arrows run, what has its test."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "secure_net"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))

IO_MODULES = frozenset({"asyncio", "socket", "ssl", "threading", "time", "select", "selectors", "subprocess"})

# Everything a peer's bytes go through, and everything that decides. They see no socket, clock or thread.
PURE = (
    "errors",
    "limits",
    "machine",
    "text",
    "daemon/greeting",
    "daemon/reload",
    "control/status",
    "control/history",
    "control/drawing",
    "control/view",
    "control/status_html",
    "wire/hello",
    "http/body",
    "http/fields",
    "http/head",
    "http/search",
    "http/protocol",
    "http/client_protocol",
    "http/response",
    "http/admin",
    "http/assets",
    "http/cookie",
    "http/page_sessions",
    "http/status_page",
    "http/conditional",
    "http/listing",
    "http/media_types",
    "http/negotiation",
    "http/ranges",
    "http/site",
    "http/targets",
    "messaging/frames",
    "messaging/echo",
    "messaging/messages",
    "messaging/protocol",
    "messaging/room",
    "messaging/rooms",
    "messaging/websocket",
    "messaging/assets",
    "messaging/client_messages",
    "messaging/client_protocol",
    "cli/line_editor",
    "rpc/decode",
    "rpc/plain",
    "rpc/encode",
    "rpc/faults",
    "rpc/signature",
    "rpc/results",
    "identity/names",
    "identity/policy",
    "identity/certificates",
    "identity/jose",
    "identity/tokens",
    "identity/revocation",
    "identity/authenticator",
)

# From what may not be imported, to what: prefixes of modules. An arrow that is not forbidden is allowed.
FORBIDDEN = {
    "wire": (
        "http",
        "rpc",
        "messaging",
        "identity",
        "store",
        "cli",
        "daemon",
        "control",
        "config",
        "audit",
        "log",
    ),
    "http": ("rpc", "messaging", "cli", "daemon", "control", "config", "store"),
    "rpc": ("messaging", "cli", "daemon", "control", "store"),
    "messaging": ("rpc", "cli", "daemon", "control", "store.sqlite", "store.sqlite_broker", "store.database"),
    "identity": ("wire", "http", "rpc", "messaging", "cli", "daemon", "control", "config"),
    "store": ("wire", "http", "rpc", "messaging", "identity", "cli", "daemon", "control", "config", "audit"),
    "audit": ("wire", "http", "rpc", "messaging", "identity", "cli", "daemon", "control", "config"),
    "control": ("wire", "http", "rpc", "messaging", "cli", "daemon", "config"),
    "errors": ("",),
    "limits": ("",),
    "text": ("",),
}

# Where a name that came from the wire could reach an attribute.
PROTOCOL_FOLDERS = ("wire", "http", "rpc", "messaging")


def dotted(path: Path) -> str:
    """secure_net/wire/tls.py as wire.tls; a package is its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of each import that runs; those for the type checker alone do not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        else:
            yield from imports(node)


def within(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + ".")


def own_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Those of our own package, without its name."""
    for line, name in imports(tree_of(path)):
        if within(name, "secure_net"):
            yield line, name.removeprefix("secure_net").lstrip(".")


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_imports_no_io(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    found = [f"{path.name}:{line} {module}" for line, module in imports(tree_of(path)) if _is_io(module)]
    assert not found


def _is_io(module: str) -> bool:
    return module.partition(".")[0] in IO_MODULES


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_arrows_run_one_way(layer: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in SOURCES
        if within(dotted(path), layer)
        for line, name in own_imports(path)
        if any(within(name, target) for target in FORBIDDEN[layer]) and (name or layer != "")
    ]
    assert not found


def test_a_machine_knows_no_server() -> None:
    machines = [
        path for path in SOURCES if path.stem in {"protocol", "client_protocol", "frames", "commands"}
    ]
    assert machines
    for path in machines:
        servers = [name for _, name in own_imports(path) if "server" in name.split(".")]
        assert not servers, path


def test_nobody_imports_the_command_line() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if not within(dotted(path), "cli")
        for line, name in own_imports(path)
        if within(name, "cli")
    ]
    assert not found


def test_only_one_file_builds_an_ssl_context() -> None:
    pattern = re.compile(r"ssl\.SSLContext\(|create_default_context\(|_create_unverified_context")
    found = [dotted(path) for path in SOURCES if pattern.search(_code(path))]
    assert found == ["wire.tls"]


def _code(path: Path) -> str:
    """The code without strings: what is printed for a newcomer may say what it likes."""
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.unparse(tree)


def test_tls_is_never_asyncio_s_own() -> None:
    """Decision D1: no `start_tls`, no `ssl=`, no stream readers."""
    pattern = re.compile(r"start_tls\b|\bssl=|open_connection\(|start_server\(|StreamReader|StreamWriter")
    assert [dotted(path) for path in SOURCES if pattern.search(_code(path))] == []


@pytest.mark.parametrize("folder", PROTOCOL_FOLDERS)
def test_no_attribute_is_looked_up_by_a_variable_name(folder: str) -> None:
    """Names from the wire are dispatched through tables. What is left names where it comes from."""
    allowed = {
        ("rpc/__init__.py", "__getattr__"),  # module attributes: names of our own
        ("rpc/registry.py", "expose"),  # names of the class that is exposed, at its registration
    }
    found = {
        (str(path.relative_to(PACKAGE)), function.name)
        for path in (PACKAGE / folder).rglob("*.py")
        for function in ast.walk(tree_of(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"getattr", "setattr", "eval", "exec", "__import__"}
        and not (len(node.args) > 1 and isinstance(node.args[1], ast.Constant))
    }
    assert found <= allowed


def test_every_source_file_has_its_test_file() -> None:
    exempt = {"__init__.py", "__main__.py"}
    missing = [
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if path.name not in exempt
        and not (ROOT / "tests" / "unit" / path.relative_to(PACKAGE)).with_name(f"test_{path.name}").exists()
    ]
    assert not missing


def test_files_and_functions_have_one_noun_s_size() -> None:
    long_files = {dotted(path) for path in SOURCES if len(path.read_text().splitlines()) > 500}
    assert not long_files
    long_functions = [
        f"{dotted(path)}.{node.name}"
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno > 60
    ]
    assert not long_functions


def test_exit_codes_are_decided_in_one_place() -> None:
    pattern = re.compile(r"sys\.exit\(|os\._exit\(|SystemExit\(")
    found = {dotted(path) for path in SOURCES if pattern.search(_code(path))}
    assert found <= {"cli.main"}


def test_no_key_is_committed() -> None:
    marker = "PRIVATE KEY-----"
    committed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    if committed == [""]:
        pytest.skip("not a git checkout")
    suspicious = [
        name
        for name in committed
        if name
        and (ROOT / name).is_file()
        and name != "tests/unit/test_layering.py"
        and _has(ROOT / name, marker)
    ]
    # A test may name the marker; a key has a body of base64 below it.
    assert not [name for name in suspicious if _KEY.search((ROOT / name).read_text(errors="replace"))]
    assert not [name for name in committed if name.endswith((".key", ".pem", ".p12", ".pfx"))]


_KEY = re.compile(r"PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}")


def _has(path: Path, marker: str) -> bool:
    return marker.encode() in path.read_bytes()
