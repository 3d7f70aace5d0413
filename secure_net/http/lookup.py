"""What a target turns out to be, once somebody has looked at the disk. Runs on a thread."""

from __future__ import annotations

import bisect
import enum
import os
from collections.abc import Sequence
from typing import NamedTuple

from secure_net.http import listing, roots
from secure_net.http.negotiation import SUFFIXES
from secure_net.http.opened import Found, Identity, OpenFile, identity
from secure_net.http.roots import AbsentError, IsFolderError
from secure_net.http.targets import Target

# A longer one can be opened, name by name, but not be asked for again as a whole; a suffix must fit too.
_PATH_BYTES = 4092


class Other(enum.Enum):
    """What a target can be besides a file."""

    LISTING = enum.auto()  # a folder that is shown
    REDIRECT = enum.auto()  # a folder that was asked for without its slash


class Names(NamedTuple):
    """A folder's names in order, and whether each is a folder; `identity` is its own when they were read."""

    target: Target
    identity: Identity
    names: Sequence[tuple[str, bool]]


def look_up(target: Target) -> Found | Other:
    """Raises `AbsentError`, and `OSError` where we are in trouble."""
    if target.slash:
        return _index(target)
    if target.names:
        *above, name = target.names
        try:
            with roots.folder(target.root.directory, above) as place:
                return _found(target, place, above, name)
        except IsFolderError:
            pass
    # Where the folder itself would not be there, neither is the way to it.
    found = _index(target._replace(slash=True))
    if isinstance(found, Found):
        found.release()
    return Other.REDIRECT


def _index(target: Target) -> Found | Other:
    """What stands for a folder."""
    with roots.folder(target.root.directory, target.names) as place:
        for name in target.root.index:
            try:
                return _found(target, place, target.names, name)
            except (AbsentError, IsFolderError):
                continue
    if not target.root.listing:
        raise AbsentError
    return Other.LISTING


def _found(target: Target, place: int, above: Sequence[str], name: str) -> Found:
    path = target.below(*above, name)
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise AbsentError
    descriptor, about = roots.open_file(place, name)
    found = Found(OpenFile(descriptor, about, path), name, {})
    if target.root.precompressed:
        try:
            found.twins = dict(_twins(found.file, target, place, above, name))
        except BaseException:
            found.release()
            raise
    return found


def _twins(
    file: OpenFile, target: Target, place: int, above: Sequence[str], name: str
) -> list[tuple[str, OpenFile]]:
    """Those that are not older than the file: an older one is of what the file was before."""
    twins: list[tuple[str, OpenFile]] = []
    try:
        for coding, suffix in SUFFIXES.items():
            try:
                descriptor, about = roots.open_file(place, name + suffix)
            except (AbsentError, IsFolderError):
                continue
            twin = OpenFile(descriptor, about, target.below(*above, name + suffix))
            if twin.modified < file.modified:
                twin.release()
            else:
                twins.append((coding, twin))
    except BaseException:
        for _, twin in twins:
            twin.release()
        raise
    return twins


def list_folder(
    target: Target, after: str, *, page_count: int, folder_count: int, known: Names | None
) -> tuple[Names, bytes]:
    """A page of the folder's listing, and the names it was made of: `known`, where they still hold.

    Raises `AbsentError`, and `OSError`.
    """
    with roots.folder(target.root.directory, target.names) as place:
        now = identity(os.fstat(place))
        if known is None or known.target != target or known.identity != now:
            known = Names(target, now, roots.visible_names(place, folder_count))
        names = known.names
        begin = bisect.bisect_right(names, after, key=lambda entry: entry[0]) if after else 0
        entries = roots.described(place, names[begin : begin + page_count])
    more = begin + page_count < len(names)
    top = not target.root.prefix and not target.names
    return known, listing.page(target.path, entries, after=after, more=more, top=top)
