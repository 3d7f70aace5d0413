"""One development PKI for all tests of the shell."""

from __future__ import annotations

import pytest

from tests.support.pki import PKI, make_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> PKI:
    return make_pki(tmp_path_factory.mktemp("pki"))
