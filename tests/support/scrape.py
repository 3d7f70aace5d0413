"""What /metrics of a running daemon says, read with prometheus-client's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import RunningDaemon
from tests.support.peer import Answer, Peer, get


def page(daemon: RunningDaemon, path: str = "/metrics", name: str | None = "metrics") -> Answer:
    """A page of the admin listener, asked for with the certificate of `name`."""
    with Peer(daemon.admin, daemon.context(name)) as peer:
        peer.send(get(path.encode(), b"Connection: close"))
        (answer,) = peer.answers()
        return answer


Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(daemon: RunningDaemon) -> Series:
    """Every time series: (name, labels) to value."""
    answer = page(daemon)
    assert answer.status == 200, answer.raw
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def metric(daemon: RunningDaemon, name: str, **labels: str) -> float:
    """The sum of all series of `name` (without ``secure_net_``) that bear `labels`; 0 where there is none."""
    wanted = labels.items()
    return sum(
        value
        for (found, having), value in scrape(daemon).items()
        if found == f"secure_net_{name}" and wanted <= having
    )
