"""What names may look like. Pure.

An identity's name is the same string everywhere: in certificates, tokens, users and file names.
"""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST_NAME_BYTES = 253  # RFC 1035 section 2.3.4, without the final dot

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_name(text: str) -> bool:
    """Whether `text` may name an identity."""
    return _NAME.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Whether `text` is a host name in the form that certificates bear: lower case, no wildcard,
    no final dot, internationalised labels as ``xn--`` (RFC 1123 section 2.1, RFC 5890)."""
    if not 0 < len(text) <= _HOST_NAME_BYTES or address(text) is not None:
        return False
    labels = text.split(".")
    # A last label of digits only is read as an address by some resolvers (RFC 3696 section 2).
    return all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def address(text: str) -> Address | None:
    """The IP address that `text` spells, or None. Zone identifiers are not addresses here."""
    try:
        return ipaddress.ip_address(text) if "%" not in text else None
    except ValueError:
        return None


def spiffe_id(trust_domain: str, name: str) -> str:
    """The URI that a client certificate bears (SPIFFE-ID section 2)."""
    return f"spiffe://{trust_domain}/{name}"


def issuer(trust_domain: str) -> str:
    """The `iss` of our access tokens: the trust domain's own SPIFFE ID."""
    return f"spiffe://{trust_domain}"
