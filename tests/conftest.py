"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support import peers
from tests.support.daemon import RunningDaemon, run_daemon

# One machine is slower than another: a deadline per example would test the machine.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", parent=settings.get_profile("default"), max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """`secure-net serve` with the defaults of `secure-net init`, on ports of its own; one per module."""
    with run_daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The peers that could not be had, by name, in the last lines."""
    lines = peers.report()
    for line in lines:
        terminalreporter.write_line(line)
    if terminalreporter.config.cache is not None:
        terminalreporter.config.cache.set(peers.CACHE_KEY, lines)
