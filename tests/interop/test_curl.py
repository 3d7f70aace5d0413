"""Debian's curl against the running daemon."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers
from tests.support.daemon import RunningDaemon

CALL = (
    "<?xml version='1.0'?><methodCall><methodName>math.double</methodName>"
    "<params><param><value><int>21</int></value></param></params></methodCall>"
)
XML = ("--header", "Content-Type: text/xml")
CALLED = (*XML, "--data", CALL)

SSL_PEER = 60  # curl's exit code for a certificate that does not verify


@dataclasses.dataclass(frozen=True)
class Curled:
    """`about` is what curl itself counted; `headers` has a list for each name."""

    code: int
    about: dict[str, Any]
    headers: dict[str, list[str]]
    body: str

    @property
    def status(self) -> int:
        return int(self.about["http_code"])

    @property
    def result(self) -> int:
        assert self.status == 200, self.body
        return int(self.body.partition("<int>")[2].partition("</int>")[0])


@dataclasses.dataclass(frozen=True)
class Curl:
    daemon: RunningDaemon
    folder: Path

    def __call__(self, *arguments: str, name: str | None = "demo", url: str = "") -> Curled:
        certificate: tuple[str, ...] = ()
        if name is not None:
            pem, key = map(str, self.daemon.certificate(name))
            certificate = ("--cert", pem, "--key", key)
        headers = self.folder / "headers"
        done = subprocess.run(
            [
                *(str(peers.need("curl")), "--silent", "--cacert", str(self.daemon.ca)),
                *("--dump-header", str(headers), "--write-out", "\n%{json}\n%{header_json}"),
                *(*certificate, *arguments, url or self.daemon.url),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        body, _, told = done.stdout.partition('\n{"certs"')
        about, _, fields = ('{"certs"' + told).partition("\n")
        return Curled(done.returncode, json.loads(about), json.loads(fields), body)

    def authorization(self, *scopes: str) -> tuple[str, str]:
        """A token, in a file: it stands in no argument."""
        path = self.folder / "authorization"
        path.write_text(f"Authorization: Bearer {self.daemon.token('demo', *scopes)}\n")
        return "--header", f"@{path}"


@pytest.fixture
def curl(daemon: RunningDaemon, tmp_path: Path) -> Curl:
    return Curl(daemon, tmp_path)


def test_a_client_certificate(curl: Curl) -> None:
    done = curl(*CALLED)
    assert done.result == 42
    assert done.headers["content-type"] == ["text/xml; charset=utf-8"]
    assert done.headers["cache-control"] == ["no-store"]
    assert done.headers["x-content-type-options"] == ["nosniff"]
    assert len(done.headers["date"]) == 1
    assert "server" not in done.headers


def test_a_token(curl: Curl) -> None:
    assert curl(*CALLED, *curl.authorization("rpc:call:math.*"), name=None).result == 42


def test_oauth2_bearer_which_curl_sends_by_itself(curl: Curl) -> None:
    # curl has no file for it, but a configuration on stdin: still nothing in the argument list.
    token = curl.daemon.token("demo", "rpc:call:math.*")
    config = curl.folder / "curlrc"
    config.write_text(f'oauth2-bearer = "{token}"\n')
    assert curl(*CALLED, "--config", str(config), name=None).result == 42


def test_the_command_that_serve_prints(daemon: RunningDaemon) -> None:
    peers.need("curl")
    (command,) = (line for line in daemon.lines if line.startswith("curl ") and "/RPC2" in line)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert "<int>42</int>" in done.stdout


# --- refusals -----------------------------------------------------------------------------------------


def test_401_without_a_credential(curl: Curl) -> None:
    done = curl(*CALLED, name=None)
    assert done.status == 401
    assert done.headers["www-authenticate"] == ["Bearer"]


def test_401_with_a_wrong_one(curl: Curl) -> None:
    done = curl(*CALLED, "--header", "Authorization: Bearer nonsense", name=None)
    assert done.status == 401
    assert done.headers["www-authenticate"][0].startswith("Bearer")
    # A credential that is shown and wrong is not made good by a certificate.
    assert curl(*CALLED, "--header", "Authorization: Bearer nonsense").status == 401


def test_401_for_basic_and_digest(curl: Curl) -> None:
    assert curl(*CALLED, "--user", "demo:demo", name=None).status == 401
    assert curl(*CALLED, "--digest", "--user", "demo:demo", name=None).status in {401, 411}


def test_403_for_a_credential_without_the_scope(curl: Curl) -> None:
    done = curl(*CALLED, *curl.authorization("admin:read:metrics"), name=None)
    assert done.status == 403
    assert 'error="insufficient_scope"' in done.headers["www-authenticate"][0]
    assert curl(*CALLED, name="metrics").status == 403


def test_404(curl: Curl) -> None:
    for path in ("/", "/RPC2/", "/rpc2", "/RPC2?x=1", "/metrics"):
        assert curl(*CALLED, url=curl.daemon.url.replace("/RPC2", path)).status == 404


def test_dot_segments_are_not_resolved_by_us(curl: Curl) -> None:
    url = curl.daemon.url.replace("/RPC2", "/x/../RPC2")
    assert curl(*CALLED, "--path-as-is", url=url).status in {400, 404}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_405(curl: Curl, method: str) -> None:
    done = curl("--request", method)
    assert done.status == 405
    assert done.headers["allow"] == ["POST"]


def test_405_for_head(curl: Curl) -> None:
    done = curl("--head")
    assert done.status == 405
    assert done.code == 0  # and not one byte of a body, or curl would say so


def test_411(curl: Curl) -> None:
    done = curl("--request", "POST", *XML)
    assert done.status == 411


def test_413_before_the_body_is_sent(curl: Curl, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text("x" * 2 * 1024 * 1024)
    done = curl(*XML, "--data-binary", f"@{body}", "--expect100-timeout", "10")
    assert done.status == 413
    assert done.about["size_upload"] == 0  # it asked by `Expect: 100-continue`, and was told no


def test_413_in_the_midst_of_a_chunked_body(curl: Curl, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text("x" * 2 * 1024 * 1024)
    chunked = ("--header", "Transfer-Encoding: chunked", "--header", "Expect:")
    assert curl(*XML, *chunked, "--data-binary", f"@{body}").status == 413


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: application/json",
        "Content-Type: text/xml; charset=utf-16",
        "Content-Type: text/xmlx",
        "Content-Type;",
    ],
)
def test_415_by_type(curl: Curl, header: str) -> None:
    assert curl("--header", header, "--data", CALL).status == 415


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity"])
def test_415_by_coding(curl: Curl, coding: str) -> None:
    assert curl(*CALLED, "--header", f"Content-Encoding: {coding}").status == 415


def test_417(curl: Curl) -> None:
    assert curl(*CALLED, "--header", "Expect: the-unexpected").status == 417


def test_431_and_414(curl: Curl) -> None:
    assert curl(*CALLED, "--header", "X: " + "y" * 40_000).status == 431
    assert curl(*CALLED, url=curl.daemon.url + "/" + "y" * 9_000).status == 414


# --- the ways of HTTP ------------------------------------------------------------------------------------


def test_alpn_offers_h2_and_http_1_1_is_chosen(curl: Curl) -> None:
    for version in ("--http2", "--http1.1", "--no-alpn"):
        done = curl(*CALLED, version)
        assert done.result == 42
        assert done.about["http_version"] == "1.1"


def test_http_2_without_asking_is_refused(curl: Curl) -> None:
    # curl offers h2 alone, which is not one of ours: a fatal alert (RFC 7301 section 3.2).
    done = curl(*CALLED, "--http2-prior-knowledge", "--no-alpn")
    assert done.code != 0
    assert done.status in {0, 400}
    assert curl(*CALLED).result == 42


def test_http_1_0(curl: Curl) -> None:
    """curl then offers nothing but `http/1.0` by ALPN."""
    done = curl(*CALLED, "--http1.0")
    assert done.result == 42
    assert "keep-alive" not in "".join(done.headers.get("connection", [])).lower()


def test_a_chunked_body(curl: Curl) -> None:
    assert curl(*CALLED, "--header", "Transfer-Encoding: chunked").result == 42


@pytest.mark.parametrize("framing", ["Accept: */*", "Transfer-Encoding: chunked"])
def test_expect_100_continue(curl: Curl, framing: str) -> None:
    # Without our 100 curl would wait for all of the 20 s, and this would run into its own deadline.
    done = curl(
        *CALLED,
        *("--header", "Expect: 100-continue", "--header", framing),
        *("--expect100-timeout", "20", "--max-time", "10"),
    )
    assert done.result == 42
    assert "HTTP/1.1 100 Continue" in (curl.folder / "headers").read_text()


def test_two_calls_on_one_connection(curl: Curl) -> None:
    done = subprocess.run(
        [
            *(str(peers.need("curl")), "--silent", "--cacert", str(curl.daemon.ca), *CALLED),
            *("--cert", str(curl.daemon.certificate("demo")[0])),
            *("--key", str(curl.daemon.certificate("demo")[1])),
            *("--write-out", "%{num_connects}\n", "--output", "/dev/null", "--output", "/dev/null"),
            *(curl.daemon.url, curl.daemon.url),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["1", "0"]


def test_connection_close_is_kept(curl: Curl) -> None:
    done = curl(*CALLED, "--header", "Connection: close")
    assert done.result == 42
    assert done.headers["connection"] == ["close"]


# --- TLS --------------------------------------------------------------------------------------------------


def test_curl_refuses_a_wrong_name_and_an_unknown_ca(curl: Curl) -> None:
    host, port = curl.daemon.rpc
    wrong = curl(
        "--resolve", f"other.example:{port}:{host}", *CALLED, url=f"https://other.example:{port}/RPC2"
    )
    assert wrong.code != 0
    assert wrong.status == 0
    stranger = curl(*CALLED, "--cacert", "/etc/ssl/certs/ca-certificates.crt")
    assert (stranger.code, stranger.status) in {(SSL_PEER, 0), (77, 0)}


def test_addresses_are_names_too(curl: Curl) -> None:
    assert curl(*CALLED, url=curl.daemon.url.replace("localhost", "127.0.0.1")).result == 42


def test_plain_http_is_not_answered(curl: Curl) -> None:
    done = curl(*CALLED, url=curl.daemon.url.replace("https", "http"))
    assert done.code != 0
    assert (done.status, done.body) == (0, "")


# --- the admin listener -------------------------------------------------------------------------------------


def test_metrics_and_probes(curl: Curl) -> None:
    admin = curl.daemon.admin_url
    assert curl(url=f"{admin}/metrics", name="metrics").status == 200
    assert curl(url=f"{admin}/metrics", name=None).status == 401
    assert curl(url=f"{admin}/metrics", name="demo").status == 403
    for probe in ("livez", "readyz"):
        done = curl(url=f"{admin}/{probe}", name=None)
        assert (done.status, done.body.strip()) == (200, "ok")
    assert curl(url=f"{admin}/readyz?verbose", name=None).status == 401
    verbose = curl(url=f"{admin}/readyz?verbose", name="admin")
    assert verbose.status == 200
    assert "[+]serving ok" in verbose.body
