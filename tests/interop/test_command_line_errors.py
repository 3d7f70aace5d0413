"""What `secure-net` says when a configuration, a file or a port is wrong: one line, an exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.command_line import (
    DONE,
    FAILED,
    MISCONFIGURED,
    complaint,
    report,
    run,
)
from tests.support.daemon import CLI, RunningDaemon, environment, init, start_daemon
from tests.support.waiting import until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and no daemon."""
    return init(tmp_path_factory.mktemp("house"))


# --- a configuration that is wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[rpc]\nlisen = 1\n", "rpc.lisen"),
        ('[rpc]\nlisten = ["127.0.0.1:1", 2]\n', "rpc.listen"),
        ('[rpc]\nlisten = "nowhere"\n', "rpc.listen"),
        ("[server]\ndrain_seconds = 'x'\n", "server.drain_seconds"),
        ("[tls]\nminimum = '1.1'\n", "tls.minimum"),
        ("[limits]\nrpc_body_bytes = -1\n", "limits.rpc_body_bytes"),
        ("[limits]\nno_such_limit = 1\n", "limits.no_such_limit"),
        ("[identities.x]\nscopes = ['nonsense']\n", "identities.x.scopes"),
        ("[nosuch]\n", "nosuch"),
        ("[rpc\n", "secure-net.toml"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_wrong_configuration_names_the_key(tmp_path: Path, command: str, written: str, said: str) -> None:
    (tmp_path / "secure-net.toml").write_text(written)
    assert said in complaint(run(command, cwd=tmp_path), MISCONFIGURED)
    assert not (tmp_path / "state").exists()


def test_no_configuration(tmp_path: Path) -> None:
    for command in (["serve"], ["check"], ["status"], ["revoke", "x"], ["audit", "tail"]):
        assert "secure-net init" in complaint(run(*command, cwd=tmp_path), MISCONFIGURED)
    line = complaint(run("--config", "no-such.toml", "serve", cwd=tmp_path), MISCONFIGURED)
    assert "no-such.toml" in line


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return init(tmp_path / "fresh")


def _serve(house: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    free = {"SECURE_NET_RPC__LISTEN": "127.0.0.1:0", "SECURE_NET_ADMIN__LISTEN": "127.0.0.1:0"}
    return run("serve", cwd=house, **(free | environ))


def test_a_port_that_is_taken(fresh: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        line = complaint(_serve(fresh, SECURE_NET_RPC__LISTEN=where), MISCONFIGURED)
    assert "rpc.listen" in line
    assert f"{where} is already in use" in line


def test_a_key_that_others_can_read(fresh: Path) -> None:
    (fresh / "certs" / "server.key").chmod(0o644)
    line = complaint(_serve(fresh), MISCONFIGURED)
    assert "server.key" in line
    assert "chmod" in line
    checked = run("check", "--json", cwd=fresh)
    assert checked.returncode == MISCONFIGURED
    assert any("server.key" in finding["where"] for finding in json.loads(checked.stdout))


def test_an_expired_certificate(fresh: Path) -> None:
    (fresh / "certs" / "server.pem").unlink()
    (fresh / "certs" / "server.key").unlink()
    assert run("ca", "issue", "server", "server", "--ttl", "1s", cwd=fresh).returncode == DONE
    end = time.time() + 1
    until(lambda: time.time() > end)
    line = complaint(_serve(fresh), MISCONFIGURED)
    assert "expired on" in line
    assert "secure-net ca renew server" in line
    assert run("ca", "renew", "server", cwd=fresh).returncode == DONE


def test_the_cure_of_an_expired_certificate_cures(fresh: Path) -> None:
    assert run("ca", "renew", "server", cwd=fresh).returncode == DONE
    daemon = start_daemon(fresh)
    assert daemon.stop() == 0


def test_a_state_that_another_daemon_holds(daemon: RunningDaemon) -> None:
    line = complaint(_serve(daemon.directory), FAILED)
    assert "state" in line
    assert report(daemon.cli("call", "math.double", "1")) == 2


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("certs/server.pem", b"nonsense"),
        ("certs/server.key", b"nonsense"),
        ("certs/ca.pem", b""),
        ("certs/token-keys.json", b"{}"),
        ("certs/crl.pem", b"nonsense"),
        ("state/store.db", b"nonsense" * 1000),
    ],
)
def test_a_damaged_file_is_one_line(fresh: Path, file: str, content: bytes) -> None:
    (fresh / file).write_bytes(content)
    done = _serve(fresh)
    line = complaint(done, FAILED if "state" in file else MISCONFIGURED)
    assert Path(file).name in line


def test_a_file_that_is_missing_is_one_line(fresh: Path) -> None:
    (fresh / "certs" / "server.pem").unlink()
    assert "server.pem" in complaint(_serve(fresh), MISCONFIGURED)


def test_a_module_that_is_not_there(fresh: Path) -> None:
    line = complaint(_serve(fresh, SECURE_NET_RPC__SERVICES="no_such_module:registry"), MISCONFIGURED)
    assert "rpc.services" in line
    assert "no_such_module" in line


# --- output ---------------------------------------------------------------------------------------


def test_a_reader_that_has_gone_is_no_traceback(house: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*CLI, "ca", "list"],
            cwd=house,
            env=environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == FAILED


def test_no_colours_in_a_pipe(house: Path) -> None:
    for command in (["ca", "list"], ["check"], ["ca", "show"]):
        assert "\x1b" not in run(*command, cwd=house).stdout
