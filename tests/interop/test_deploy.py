"""The deployment files as their own tools read them, held against a daemon that runs by them.

(`tests/unit/test_documents.py` has promtool, systemd-analyze and the names of the metrics.)
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from secure_net import config
from tests.support import peers
from tests.support.daemon import ROOT, RunningDaemon
from tests.support.scrape import page

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """Every YAML document of a file, by Debian's yq."""
    done = subprocess.run(
        [str(peers.need("yq")), "--compact-output", ".", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def manifest(kind: str) -> dict[str, Any]:
    found = [
        document
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for document in documents(path)
        if document["kind"] == kind
    ]
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_every_yaml_file_parses(path: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(path))


def test_kustomize_names_every_file_and_no_other() -> None:
    kustomization = manifest("Kustomization")
    (generated,) = kustomization["configMapGenerator"]
    named = {*kustomization["resources"], *generated["files"], "kustomization.yaml"}
    assert named == {path.name for path in KUBERNETES.iterdir() if path.is_file()}
    volumes = manifest("StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert generated["name"] in {volume.get("configMap", {}).get("name") for volume in volumes}


def test_the_ports_agree_in_every_file() -> None:
    (container,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    configuration = config.parse((KUBERNETES / "secure-net.toml").read_text(), None, {})
    assert ports == {service: configuration.addresses(service)[0].port for service in configuration.services}
    exposed = re.search(r"^EXPOSE (.+)$", (DEPLOY / "container" / "Containerfile").read_text(), re.MULTILINE)
    assert exposed is not None
    assert sorted(map(int, exposed[1].split())) == sorted(ports.values())
    service = manifest("Service")["spec"]
    assert {port["targetPort"] for port in service["ports"]} == set(ports)
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    allowed = {
        port["port"] for rule in manifest("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]
    }
    assert allowed == set(ports)


def test_the_labels_agree() -> None:
    stateful = manifest("StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    assert stateful["selector"]["matchLabels"].items() <= labels.items()
    assert manifest("Service")["spec"]["selector"].items() <= labels.items()
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert stateful["serviceName"] == manifest("Service")["metadata"]["name"]


def test_the_paths_of_the_configuration_are_mounted() -> None:
    spec = manifest("StatefulSet")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    configuration = tomllib.loads((KUBERNETES / "secure-net.toml").read_text())
    for path in (configuration["tls"]["directory"], configuration["server"]["state"]):
        assert any(Path(path).is_relative_to(place) for place in mounted), path
    held = {volume["name"] for volume in spec["volumes"]}
    held |= {claim["metadata"]["name"] for claim in manifest("StatefulSet")["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= held


def test_nothing_in_the_pod_may_gain_anything() -> None:
    spec = manifest("StatefulSet")["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    for container in (*spec["initContainers"], *spec["containers"]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]


def test_the_drain_fits_into_the_grace_period() -> None:
    configuration = tomllib.loads((KUBERNETES / "secure-net.toml").read_text())
    drain = configuration["server"].get("drain_seconds", 35)
    assert manifest("StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain


def test_the_probes_are_answered_by_a_daemon(daemon: RunningDaemon) -> None:
    (container,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[kind]["httpGet"]
        assert (probe["port"], probe["scheme"]) == ("admin", "HTTPS")
        assert page(daemon, probe["path"], name=None).status == 200
