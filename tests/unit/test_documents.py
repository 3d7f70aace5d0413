"""What the documents and the deployment files claim is what the code does."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import secure_net
from secure_net.cli.main import COMMANDS
from secure_net.config import load
from secure_net.errors import Refusal
from secure_net.http import response
from secure_net.http.response import REFUSALS, Response
from secure_net.limits import Limits
from secure_net.metrics import Metrics
from secure_net.rpc import faults
from secure_net.rpc.faults import Code
from tests.support import peers

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "deploy/**/*.md",
        "certs/*.md",
        "requirements/*.md",
        "benchmarks/*.md",
    )
    for path in ROOT.glob(pattern)
)
WRITTEN = [
    *DOCUMENTS,
    *sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"),
    *sorted((ROOT / "requirements").iterdir()),
    ROOT / "Makefile",
    ROOT / ".ci" / "run",
    ROOT / "pyproject.toml",
]

# Folders of a developer's own; what a document may show is /etc, /opt, /run, /var.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|mnt|builds?)/[\w.-]")
INDEX = re.compile(
    r"--(?:extra-)?index-url|--find-links|https?://[^\s)>\"']*(?:/simple|pypi|artifact|mirror)"
)


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_names_a_machine_or_where_packages_came_from(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not MACHINE_PATH.findall(text)
    assert not INDEX.findall(text)
    assert "PRIVATE KEY" not in text


def _table(heading: str) -> dict[str, list[str]]:
    """The first table under a heading of docs/server-behaviour.md, by the words in its first column."""
    text = (ROOT / "docs" / "server-behaviour.md").read_text()
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {
        word: [cell.strip() for cell in row] for row in rows for word in re.findall(r"`([a-z0-9_]+)`", row[0])
    }


def test_every_limit_stands_in_the_documents_with_its_default() -> None:
    limits = {
        field.name: getattr(group, field.name)
        for group in (getattr(Limits(), part.name) for part in dataclasses.fields(Limits))
        for field in dataclasses.fields(group)
    }
    rows = _table("Limits")
    assert set(rows) == set(limits)
    shown = {key: float(row[1].replace(",", "")) for key, row in rows.items()}
    assert shown == {key: float(value) for key, value in limits.items()}
    assert [key for key, row in rows.items() if not row[2]] == []


def test_every_reason_of_a_refusal_stands_in_the_documents() -> None:
    assert set(_table("Reasons")) == {reason.value for reason in Refusal}


def test_every_fault_code_stands_in_the_documents() -> None:
    text = (ROOT / "docs" / "server-behaviour.md").read_text()
    section = text.split("## XML-RPC faults\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| -32")]
    assert {int(re.findall(r"-\d+", row[0])[0]) for row in rows} == set(Code)
    texts = {text.strip() for row in rows for text in row[1].split(",")}
    constants = {
        getattr(faults, name)
        for name in dir(faults)
        if name.isupper() and isinstance(getattr(faults, name), str) and "{}" not in getattr(faults, name)
    }
    assert constants <= texts | {"no such method, or not permitted"}


def test_every_status_that_is_refused_with_stands_in_the_documents() -> None:
    text = (ROOT / "docs" / "server-behaviour.md").read_text()
    section = text.split("## HTTP answers\n")[1].split("\n## ")[0]
    shown = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", section, re.MULTILINE) for code in row.split(",")
    }
    assert set(REFUSALS) <= shown
    assert {
        constant.status for constant in vars(response).values() if isinstance(constant, Response)
    } <= shown


LINK = re.compile(r"\]\(([^)#:]+)\)")
PLACE = re.compile(
    r"`((?:secure_net|docs|tests|deploy|examples|benchmarks|certs|requirements)/[\w./-]*[\w/])`"
)
# In a page about the package, a path is taken from there.
ROOM = re.compile(r"`((?:wire|identity|store|audit|http|rpc|control|daemon|cli)/\w+\.py)`")
# What a reader makes, or writes when a protocol is added.
MADE = ("benchmarks/results/", "certs/clients/", "certs/server.key", "certs/ca.pem")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(path: Path) -> None:
    text = path.read_text()
    named = [path.parent / name for name in LINK.findall(text)]
    named += [ROOT / name for name in PLACE.findall(text) if not name.startswith(MADE)]
    named += [ROOT / "secure_net" / name for name in ROOM.findall(text)]
    assert [str(name) for name in named if not name.exists()] == []


def test_every_file_of_hostile_tests_stands_in_the_threat_table() -> None:
    section = (ROOT / "SECURITY.md").read_text().split("## Threats and their tests\n")[1].split("\n## ")[0]
    shown = set(re.findall(r"`(test_\w+\.py)`", section))
    assert shown == {path.name for path in (ROOT / "tests" / "hostile").glob("test_*.py")}


def test_every_decision_has_its_number() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert [page.name for page in pages if not page.read_text().startswith(f"# {int(page.name[:4])}. ")] == []


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert secure_net.__version__ == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_public_name_can_be_had() -> None:
    assert set(secure_net.__all__) == set(dir(secure_net))
    for name in secure_net.__all__:
        assert getattr(secure_net, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        secure_net.__getattr__("no_such_name")


def test_every_command_that_is_shown_exists() -> None:
    shown = {
        (path.name, word)
        for path in WRITTEN
        for word in re.findall(
            r"(?:^|[`/ ])secure-net (?:--config \S+ )?([a-z]+)\b", path.read_text(), re.MULTILINE
        )
    }
    later = {"is", "daemon", "on", "and", "needs"}  # prose
    assert {word for _, word in shown} - later <= set(COMMANDS), shown


def test_the_locks_hold_every_dependency_by_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "run.txt": project["dependencies"],
        "test.txt": project["dependencies"] + project["optional-dependencies"]["test"],
        "bench.txt": project["dependencies"] + project["optional-dependencies"]["bench"],
    }
    for name, requirements in wanted.items():
        text = (ROOT / "requirements" / name).read_text()
        locked = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
        missing = {re.split(r"[\[<>=!~ ]", requirement.lower())[0] for requirement in requirements} - locked
        assert not missing, name
        for block in re.split(r"\n(?=\S)", text.strip()):
            assert "--hash=sha256:" in block, block.splitlines()[0]


# --- deployment -------------------------------------------------------------------------------------------


def _own_metrics() -> set[str]:
    """Every series name that a daemon exports."""
    metrics = Metrics()
    metrics.service("rpc").response(200)
    metrics.certificates = lambda: {"server": 1.0}
    metrics.crl_expiry = lambda: 1.0
    return {sample.name for family in metrics.collect() for sample in family.samples}


METRIC = re.compile(r"\bsecure_net_[a-z_]+")


@pytest.mark.parametrize("name", ["prometheus/secure-net.rules.yml", "grafana/secure-net.json"])
def test_rules_and_dashboard_use_only_metrics_we_have(name: str) -> None:
    used = set(METRIC.findall((DEPLOY / name).read_text()))
    assert used
    assert used <= _own_metrics()


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "secure-net.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["description"] and panel["targets"] for panel in panels)
    assert not _overlap([panel["gridPos"] for panel in dashboard["panels"]])


def _overlap(places: list[dict[str, int]]) -> bool:
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    return len(cells) != len(set(cells))


def test_promtool_accepts_rules_and_scrape_configuration(tmp_path: Path) -> None:
    promtool = peers.need("promtool")
    for name in ("prometheus.yml", "secure-net.rules.yml"):
        text = (DEPLOY / "prometheus" / name).read_text()
        (tmp_path / name).write_text(text.replace("/etc/prometheus/secure-net/", f"{tmp_path}/"))
    for name in ("ca.pem", "metrics.pem", "metrics.key", "token"):
        (tmp_path / name).touch()
    _check(promtool, "check", "rules", tmp_path / "secure-net.rules.yml")
    _check(promtool, "check", "config", tmp_path / "prometheus.yml")


def _check(*command: Any) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_unit() -> None:
    analyze = peers.need("systemd-analyze")
    unit = DEPLOY / "systemd" / "secure-net.service"
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
    complaints = done.stderr.splitlines()
    assert [line for line in complaints if "is not executable: No such file" not in line] == []


def test_the_configuration_of_the_cluster_is_taken() -> None:
    configuration = load(DEPLOY / "kubernetes" / "secure-net.toml", {})
    assert list(configuration.services) == ["rpc", "echo", "chat", "chat-web", "admin"]


def test_the_unit_s_numbers_fit_the_defaults() -> None:
    unit = (DEPLOY / "systemd" / "secure-net.service").read_text()
    settings = dict(
        line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#")
    )
    assert settings["Type"] == "notify"
    assert settings["ExecReload"].endswith(" reload")
    assert int(settings["TimeoutStopSec"]) > 35
    assert int(settings["LimitNOFILE"]) > Limits().connection.connections_count
    assert settings["RestartPreventExitStatus"] == "78"
