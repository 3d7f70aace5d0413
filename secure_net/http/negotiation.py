"""Which of a file's precompressed twins a client wants (RFC 9110 section 12.5.3). Pure."""

from __future__ import annotations

import functools
import re
from types import MappingProxyType

# Coding to the suffix of the twin that is so encoded, in the order of our own preference.
SUFFIXES = MappingProxyType({"br": ".br", "gzip": ".gz"})

_ELEMENT = re.compile(
    r"([!#$%&'*+\-.^_`|~0-9A-Za-z]++)(?:[ \t]*+;[ \t]*+[qQ]=(0(?:\.[0-9]{0,3})?+|1(?:\.0{0,3})?+))?+"
)
_LONGEST = 512  # bytes of the field; browsers send 30. Answers are remembered, and the memory is bounded
_ALIASES = {"x-gzip": "gzip"}  # section 8.4.1.3


def wanted(accept_encoding: bytes | None) -> tuple[str, ...]:
    """The codings of `SUFFIXES` that are better than none for who sent this field, the best first."""
    if accept_encoding is None or len(accept_encoding) > _LONGEST:
        return ()
    return _wanted(accept_encoding)


@functools.lru_cache(maxsize=256)
def _wanted(accept_encoding: bytes) -> tuple[str, ...]:
    weights: dict[str, float] = {}
    for element in accept_encoding.decode("ascii").split(","):
        match = _ELEMENT.fullmatch(element.strip(" \t"))
        if match is not None:
            name = match[1].lower()
            weights[_ALIASES.get(name, name)] = float(match[2] or 1)
    # Unless something is said of it, what is not encoded at all will do where nothing better is there.
    plain = weights.get("identity", 0.0)
    found = {coding: weights.get(coding, weights.get("*", 0.0)) for coding in SUFFIXES}
    better = [coding for coding, weight in found.items() if weight > 0 and weight >= plain]
    return tuple(sorted(better, key=lambda coding: -found[coding]))
