"""What ``[files]`` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_net.errors import ConfigurationError
from secure_net.http.site import site_of
from secure_net.tables import FilesCacheTable, FilesRootTable, FilesTable

BASE = Path("/srv")


def root(path: str = "/", directory: str = "www", **more: object) -> FilesRootTable:
    return FilesRootTable(path=path, directory=directory, **more)  # type: ignore[arg-type]


def test_a_site() -> None:
    table = FilesTable(
        roots=(
            root(access="public", index=("a.html",), listing=True, not_found="errors/404.html"),
            root("/manuals/", "/opt/manuals", precompressed=False),
        ),
        cache=(FilesCacheTable(pattern="/a/**", control="public, max-age=60"),),
        content_security_policy="sandbox; default-src 'self'",
        hsts_seconds=60,
    )
    site = site_of(table, BASE)
    top, manuals = site.roots
    assert (top.prefix, top.directory, top.public) == ((), "/srv/www", True)
    assert (top.index, top.listing, top.not_found) == (("a.html",), True, ("errors", "404.html"))
    assert (manuals.prefix, manuals.directory, manuals.public) == (("manuals",), "/opt/manuals", False)
    assert not manuals.precompressed
    assert site.cache[0].matches("/a/b/c")
    assert (site.policy, site.hsts_seconds) == (b"sandbox; default-src 'self'", 60)
    assert site.is_open
    assert not site_of(FilesTable(roots=(root(),)), BASE).is_open
    assert site_of(FilesTable(content_security_policy=""), BASE).policy == b""


@pytest.mark.parametrize(
    ("table", "where"),
    [
        (FilesTable(roots=(root("manuals"),)), "files.roots[0].path"),
        (FilesTable(roots=(root("/a"), root("/b/../c"))), "files.roots[1].path"),
        (FilesTable(roots=(root("/a"), root("/b"), root("/a/"))), "files.roots[2].path"),
        (FilesTable(roots=(root(directory=""),)), "files.roots[0].directory"),
        (FilesTable(roots=(root(index=("a", ".b")),)), "files.roots[0].index[1]"),
        (FilesTable(roots=(root(index=("a/b",)),)), "files.roots[0].index[0]"),
        (FilesTable(roots=(root(not_found="../404"),)), "files.roots[0].not_found"),
        (FilesTable(cache=(FilesCacheTable(pattern="a", control="x"),)), "files.cache[0].pattern"),
        (FilesTable(cache=(FilesCacheTable(pattern="/a", control=""),)), "files.cache[0].control"),
        (FilesTable(cache=(FilesCacheTable(pattern="/a", control="x\r\ny: z"),)), "files.cache[0].control"),
        (FilesTable(content_security_policy="a\nb"), "files.content_security_policy"),
        (FilesTable(content_security_policy="ä"), "files.content_security_policy"),
    ],
)
def test_what_cannot_be(table: FilesTable, where: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        site_of(table, BASE)
    assert raised.value.path == where
