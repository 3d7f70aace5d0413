"""Make text that a stranger chose safe to show: on a terminal, in a log line, in what rich prints.

Pure, and cheap to import: every command needs it.
"""

from __future__ import annotations

import re

# What rich takes for a tag, with the backslashes before it (`rich.markup`).
_TAG = re.compile(r"(\\*)\[(?=[a-z#/@])")


class _Printable(dict[int, str]):
    """`str.translate` table: a character that acts instead of showing becomes its escape.

    `str.isprintable` is false for controls (C0, C1, DEL), for format characters (bidi overrides and
    isolates, zero-width joiners, tags), surrogates, private and unassigned characters, and for every
    separator but the space. Escapes look as in Python: \\x1b, \\u202e, \\U000e0001.
    """

    def __missing__(self, codepoint: int) -> str:
        character = chr(codepoint)
        if character.isprintable():
            return character
        if codepoint < 0x100:
            return f"\\x{codepoint:02x}"
        return f"\\u{codepoint:04x}" if codepoint < 0x10000 else f"\\U{codepoint:08x}"


_PRINTABLE = _Printable()


def escape(text: str, *, markup: bool = True) -> str:
    """`text` on one line, with nothing in it that a terminal, or with `markup` rich, would act upon.

    >>> escape("\\x1b[31mred\\n[bold]x")
    '\\\\x1b[31mred\\\\x0a\\\\[bold]x'

    Without `markup`, square brackets stay as they are: for output that goes to a terminal directly.
    """
    if markup and "[" in text:
        text = _TAG.sub(r"\1\1\\[", text)
    return text if text.isprintable() else text.translate(_PRINTABLE)
