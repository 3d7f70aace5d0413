"""The real `secure-net`, as a newcomer, an operator and a script use it: output and exit codes.

(`test_command_line_errors.py` has what is wrong with a configuration, a file or a port.)
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import (
    DONE,
    FAILED,
    INTERRUPTED,
    MISCONFIGURED,
    REFUSED,
    WRONG_USAGE,
    complaint,
    report,
    run,
)
from tests.support.daemon import CLI, RunningDaemon, init, start_daemon
from tests.support.waiting import until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and no daemon."""
    return init(tmp_path_factory.mktemp("house"))


# --- a newcomer -----------------------------------------------------------------------------------


def test_from_nothing_to_a_call(tmp_path: Path) -> None:
    """In an empty folder, with no checkout around: `init`, `check`, `serve`, and what `serve` says to try."""
    made = run("init", cwd=tmp_path)
    assert (made.returncode, made.stderr) == (DONE, "")
    assert made.stdout.endswith("next: secure-net serve\n")
    for path in ("ca", "state", "ca/ca.key", "certs/server.key", "certs/clients/admin.key"):
        assert (tmp_path / path).stat().st_mode & 0o077 == 0, path
    checked = run("check", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (DONE, "")
    daemon = start_daemon(tmp_path)
    try:
        (command,) = (line for line in daemon.lines if line.startswith("secure-net call "))
        words = command.split()[1:]
        assert run(*words, cwd=Path("/")).stdout == "42\n"
        assert daemon.cli("call", "math.double", "21").stdout == "42\n"
        (python,) = (line for line in daemon.lines if line.startswith("python3 -c "))
        done = subprocess.run(["sh", "-c", python], capture_output=True, text=True, timeout=30, check=True)
        assert done.stdout == "42\n"
    finally:
        assert daemon.stop() == 0


def test_init_overwrites_nothing(house: Path) -> None:
    before = {path: path.read_bytes() for path in house.rglob("*") if path.is_file()}
    assert "overwritten" in complaint(run("init", cwd=house), FAILED)
    assert {path: path.read_bytes() for path in house.rglob("*") if path.is_file()} == before


def test_init_elsewhere_with_names(tmp_path: Path) -> None:
    there = tmp_path / "deep" / "er"
    done = run("init", there, "--name", "rpc.example.org", "--name", "10.0.0.7", "--json", cwd=tmp_path)
    assert str(there / "secure-net.toml") in report(done)["written"]
    shown = report(run("ca", "show", "--json", cwd=there))
    assert {"rpc.example.org", "10.0.0.7", "localhost", "127.0.0.1", "::1"} <= set(shown["names"])
    assert shown["trust_domain"] == "rpc.example.org"


def test_help_and_version(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.startswith("secure-net, version ")
    help_text = run("--help", cwd=tmp_path).stdout
    commands = re.findall(r"^  ([a-z]+)  ", help_text, re.MULTILINE)
    assert {"init", "serve", "check", "call", "ca", "token", "revoke", "status", "audit"} <= set(commands)
    for command in commands:
        assert run(command, "--help", cwd=tmp_path).returncode == DONE


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        (["math.double", "21"], 42),
        (["math.divide", "1", "4"], 0.25),
        (["math.divide", "1.0", "4.0"], 0.25),
        (["reports.summary", "[1.5, 2]"], {"label": "values", "count": 2, "sum": 3.5, "range": [1.5, 2.0]}),
        (["system.methodHelp", '"math.double"'], "Twice the value."),
    ],
)
def test_call(daemon: RunningDaemon, arguments: list[str], result: Any) -> None:
    assert report(daemon.cli("call", *arguments)) == result


def test_call_is_admin_beside_the_configuration(daemon: RunningDaemon) -> None:
    assert report(daemon.cli("call", "account.whoAmI"))["name"] == "admin"


def test_call_with_times_and_bytes(daemon: RunningDaemon) -> None:
    assert report(daemon.cli("call", "text.digest", '"x"')).keys() == {"$base64"}
    assert report(daemon.cli("call", "time.currentTime")).keys() == {"$time"}


def test_call_with_a_token_file_and_elsewhere(daemon: RunningDaemon, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(daemon.token("demo", "rpc:call:math.*") + "\n")
    token.chmod(0o600)
    where = ["--url", daemon.url, "--ca", str(daemon.ca), "--token-file", str(token)]
    assert report(run("call", "math.double", "21", *where, cwd=tmp_path)) == 42
    assert "no such method" in complaint(run("call", "time.wait", "0.0", *where, cwd=tmp_path), FAILED)
    environ = {
        "SECURE_NET_CLIENT__URL": daemon.url,
        "SECURE_NET_CLIENT__CA": str(daemon.ca),
        "SECURE_NET_CLIENT__TOKEN_FILE": str(token),
    }
    assert report(run("call", "math.double", "21", cwd=tmp_path, **environ)) == 42


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["no.such.method"], FAILED, "no such method, or not permitted"),
        (["math.double"], FAILED, "wrong parameters"),
        (["math.double", '"x"'], FAILED, "wrong parameters"),
        (["math.divide", "1.0", "0.0"], FAILED, "the divisor is zero"),
        (["account.motto"], FAILED, "internal error, reference"),
        (["time.wait", "9.0", "--deadline", "0.2"], FAILED, "deadline"),
    ],
)
def test_calls_that_fail(daemon: RunningDaemon, arguments: list[str], code: int, said: str) -> None:
    assert said in complaint(daemon.cli("call", *arguments, check=False), code)


def test_calls_that_are_refused(daemon: RunningDaemon, tmp_path: Path) -> None:
    for name, content in (("wrong", "wrong"), ("scopeless", daemon.token("demo", "admin:read:metrics"))):
        token = tmp_path / name
        token.write_text(content)
        token.chmod(0o600)
        complaint(daemon.cli("call", "math.double", "1", "--token-file", str(token), check=False), REFUSED)


@pytest.mark.parametrize(
    "arguments",
    [
        ["call"],
        ["call", "math.double", "not json"],
        ["call", "math.double", "--no-such"],
        ["no-such-command"],
    ],
)
def test_wrong_usage(daemon: RunningDaemon, arguments: list[str]) -> None:
    done = daemon.cli(*arguments, check=False)
    assert done.returncode == WRONG_USAGE
    assert "Traceback" not in done.stderr


def test_a_server_that_is_down(house: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = run("call", "math.double", "1", cwd=house, SECURE_NET_RPC__LISTEN=f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in complaint(done, FAILED)
    for command in (["status"], ["reload"]):
        assert "no daemon is running here" in complaint(run(*command, cwd=house), FAILED)


def test_a_server_that_is_somebody_else(daemon: RunningDaemon, house: Path) -> None:
    """Another CA's daemon: nothing is sent to it."""
    done = run("call", "math.double", "1", "--url", daemon.url, cwd=house)
    assert "certificate" in complaint(done, FAILED)


def test_interrupted(daemon: RunningDaemon) -> None:
    # Our own group: Ctrl-C on a terminal reaches the command, and here nobody else.
    known = {"SECURE_NET_RPC__LISTEN": "{}:{}".format(*daemon.rpc)}
    process = subprocess.Popen(
        [*CLI, "call", "time.wait", "9.0"],
        cwd=daemon.directory,
        env=daemon.environ | known,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: "demo" in _connected(daemon) or "admin" in _connected(daemon))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (INTERRUPTED, "")
    assert "Traceback" not in err


def _connected(daemon: RunningDaemon) -> dict[str, int]:
    status: dict[str, Any] = report(daemon.cli("status", "--json"))
    return dict(status["principals"])


# --- tokens ---------------------------------------------------------------------------------------


def test_tokens_from_issue_to_revoke(daemon: RunningDaemon, tmp_path: Path) -> None:
    issued = daemon.cli("token", "issue", "demo", "--scope", "rpc:call:math.*", "--ttl", "10m")
    assert issued.stderr == ""
    (token,) = issued.stdout.splitlines()  # alone, so that `> file` is all it takes
    assert token.count(".") == 2
    inspected = report(daemon.cli("token", "inspect", "--json", stdin=token))
    assert (inspected["valid"], inspected["subject"]) == (True, "demo")
    assert inspected["scopes"] == ["rpc:call:math.*"]
    kept = tmp_path / "token"
    assert daemon.cli("token", "issue", "demo", "--scope", "rpc:call:**", "--out", str(kept)).stdout == ""
    assert kept.stat().st_mode & 0o777 == 0o600
    assert report(daemon.cli("call", "math.double", "4", "--token-file", str(kept))) == 8
    jti = report(daemon.cli("token", "inspect", str(kept), "--json"))["jti"]
    assert jti in daemon.cli("token", "revoke", jti).stdout
    complaint(daemon.cli("call", "math.double", "4", "--token-file", str(kept), check=False), REFUSED)
    rotated = daemon.cli("token", "rotate").stdout
    assert "signs from now on" in rotated
    assert "retires at" in rotated
    assert daemon.cli("token", "issue", "demo", "--scope", "rpc:call:math.*").stdout != issued.stdout
    assert report(daemon.cli("token", "inspect", "--json", stdin=token))["valid"]  # of the former key


def test_a_token_that_nobody_believes(daemon: RunningDaemon) -> None:
    complaint(daemon.cli("token", "inspect", check=False, stdin="a.b.c"), REFUSED)
    done = daemon.cli("token", "inspect", "--json", check=False, stdin="a.b.c")
    assert (done.returncode, json.loads(done.stdout)["valid"]) == (REFUSED, False)


def test_a_token_is_never_an_argument(daemon: RunningDaemon) -> None:
    token = daemon.token("demo", "rpc:call:math.*")
    done = daemon.cli("token", "revoke", token, check=False)
    assert done.returncode == WRONG_USAGE
    assert token not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["demo", "--scope", "nonsense"],
        ["De mo", "--scope", "rpc:call:**"],
        ["demo", "--scope", "rpc:call:**", "--ttl", "soon"],
    ],
)
def test_tokens_that_are_not_issued_for_wrong_usage(house: Path, arguments: list[str]) -> None:
    assert run("token", "issue", *arguments, cwd=house).returncode == WRONG_USAGE


def test_a_token_for_longer_than_a_day_is_not_issued(house: Path) -> None:
    done = run("token", "issue", "demo", "--scope", "rpc:call:**", "--ttl", "25h", cwd=house)
    assert done.returncode == WRONG_USAGE
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


# --- the CA ---------------------------------------------------------------------------------------


def test_the_ca_from_issue_to_crl(daemon: RunningDaemon) -> None:
    daemon.cli("ca", "issue", "client", "carol", "--scope", "rpc:call:math.*", "--ttl", "30d")
    carol, key = daemon.certificate("carol")
    assert key.stat().st_mode & 0o777 == 0o600
    as_carol = ["--cert", str(carol)]
    assert report(daemon.cli("call", "math.double", "2", *as_carol)) == 4
    first = carol.read_bytes()
    daemon.cli("ca", "renew", "carol")
    assert carol.read_bytes() != first
    assert report(daemon.cli("call", "math.double", "2", *as_carol)) == 4
    rows = [row for row in report(daemon.cli("ca", "list", "--json")) if row["name"] == "carol"]
    assert [row["state"] for row in rows] == ["valid", "valid"]
    daemon.cli("ca", "revoke", str(carol))
    complaint(daemon.cli("call", "math.double", "2", *as_carol, check=False), REFUSED)
    rows = [row for row in report(daemon.cli("ca", "list", "--json")) if row["name"] == "carol"]
    assert sorted(row["state"] for row in rows) == ["revoked", "valid"]
    assert "wrote" in daemon.cli("ca", "crl", "--ttl", "7d").stdout
    shown = daemon.cli("ca", "show").stdout
    assert "-----BEGIN CERTIFICATE-----" in shown
    assert "SHA-256 fingerprint" in shown


def test_ca_commands_that_fail(house: Path) -> None:
    outside = run("ca", "issue", "server", "other", "--dns", "other.example.org", cwd=house)
    assert "other.example.org" in complaint(outside, FAILED)
    assert not (house / "certs" / "servers").exists()
    again = run("ca", "issue", "client", "demo", cwd=house)
    assert "not overwritten" in complaint(again, FAILED)
    complaint(run("ca", "revoke", "00ff00ff", cwd=house), FAILED)
    complaint(run("ca", "list", "--ca-directory", "nowhere", cwd=house), MISCONFIGURED)
    assert run("ca", "issue", "client", "UPPER", cwd=house).returncode == WRONG_USAGE


# --- policy, revocation, state --------------------------------------------------------------------


def test_policy_explain(house: Path) -> None:
    yes = run("policy", "explain", "demo", "rpc:call:math.double", cwd=house)
    assert yes.returncode == DONE
    assert "rpc:call:**" in yes.stdout
    no = run("policy", "explain", "metrics", "rpc:call:math.double", cwd=house)
    assert no.returncode == REFUSED
    unknown = run("policy", "explain", "nobody", "rpc:call:math.double", cwd=house)
    assert unknown.returncode == REFUSED
    for done in (yes, no, unknown):
        assert "Traceback" not in done.stderr


def test_revoke_status_audit_and_backup(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.cli("ca", "issue", "client", "dave", "--scope", "rpc:call:**")
    answer = report(daemon.cli("revoke", "dave", "--json"))
    assert (answer["name"], answer["daemon"]) == ("dave", True)
    status = report(daemon.cli("status", "--json"))
    assert status["process"] == daemon.process.pid
    assert {service["name"] for service in status["services"]} == set(daemon.addresses)
    assert status["revocations"]["names_blocked"] == 1
    assert "serving" in daemon.cli("status").stdout
    tail = daemon.cli("audit", "tail", "--json", "-n", "50").stdout.splitlines()
    acts = [json.loads(line) for line in tail]
    assert any(act["what"] == "revoke" and "dave" in json.dumps(act) for act in acts)
    assert "dave" in daemon.cli("audit", "tail", "-n", "50").stdout
    verified = report(daemon.cli("audit", "verify", "--json"))
    assert (verified["sound"], verified["problems"]) == (True, [])
    head = f"{verified['head']}"
    assert daemon.cli("audit", "verify", "--head", head).returncode == DONE
    copy = tmp_path / "copy.db"
    daemon.cli("backup", str(copy))
    assert copy.stat().st_mode & 0o077 == 0
    connection = sqlite3.connect(copy)
    with contextlib.closing(connection):
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert "not overwritten" in complaint(daemon.cli("backup", str(copy), check=False), FAILED)
    daemon.cli("user", "unlock", "dave")
    assert report(daemon.cli("status", "--json"))["revocations"]["names_blocked"] == 0


def test_reload_says_what_needs_a_restart(daemon: RunningDaemon) -> None:
    path = daemon.directory / "secure-net.toml"
    kept = path.read_text()
    path.write_text(kept.replace('services = ["examples.services:registry"]', "services = []"))
    try:
        assert report(daemon.cli("reload", "--json"))["needs_restart"] == ["rpc.services"]
        assert report(daemon.cli("call", "math.double", "21")) == 42
    finally:
        path.write_text(kept)
    assert report(daemon.cli("reload", "--json"))["needs_restart"] == []


def test_a_policy_that_changes_is_felt_at_the_next_call(daemon: RunningDaemon) -> None:
    path = daemon.directory / "secure-net.toml"
    kept = path.read_text()
    with daemon.proxy("demo") as proxy:
        assert proxy.math.double(21) == 42
        path.write_text(kept.replace('scopes = ["rpc:call:**"', 'scopes = ["rpc:call:time.*"'))
        try:
            daemon.cli("reload")
            with pytest.raises(Exception, match="no such method, or not permitted"):
                proxy.math.double(21)
        finally:
            path.write_text(kept)
            daemon.cli("reload")
        assert proxy.math.double(21) == 42
