"""The seam's records: what a caller may leave out, and what comes back untouched."""

from __future__ import annotations

from secure_net.store.broker import ID_BYTES, Publication, Standing, Verdict


def test_a_publication_without_a_token_has_none_and_a_verdict_hands_back_the_very_one() -> None:
    publication = Publication("ops", "ann", bytes(ID_BYTES), 1.0, b'"hi"')
    assert publication.token is None
    assert Verdict(publication, 1, "new").publication is publication


def test_a_standing_is_a_pair() -> None:
    seq, first = Standing(0, 1)
    assert (seq, first) == (0, 1)
