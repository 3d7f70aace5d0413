"""Finding the end of a head under its caps, while it arrives; both directions.

What is refused, and how, depends on the bytes alone and never on how they were split: the first line is
judged first, then bare CR and LF in order of arrival against size, and all else waits for the whole head.
No byte is searched twice, so a head that arrives byte by byte costs no more than a straight line.
"""

from __future__ import annotations

import re

from secure_net.http.body import Buffer
from secure_net.http.fields import BARE, malformed, too_large
from secure_net.limits import HTTPLimits

_LINE_END = re.compile(rb"[\r\n]")
_HEAD_END = b"\r\n\r\n"


class HeadSearch:
    """Looks for the end of one head after another; `first_line` matches its first line with the CRLF."""

    __slots__ = ("_first_line", "_headers_bytes", "_line_bytes", "_line_end", "_searched")

    def __init__(self, first_line: re.Pattern[bytes], limits: HTTPLimits) -> None:
        self._first_line = first_line
        self._line_bytes = limits.http_request_line_bytes
        self._headers_bytes = limits.http_headers_bytes
        # Counted from the start of the head: where its first line ends (0: not known yet), and how far
        # the search has come.
        self._line_end = 0
        self._searched = 0

    def find(self, buffer: Buffer, start: int) -> int:
        """The position behind the head that begins at `start`, or -1 while some of it is missing.

        Raises `RemoteProtocolError` as soon as it cannot become a head: 400, 414 or 431.
        """
        if not self._searched:
            # Nearly every head arrives whole, and small enough to be under every cap.
            most = min(self._line_bytes, self._headers_bytes)
            mark = buffer.find(_HEAD_END, start, start + most)
            if mark >= 0:
                return mark + 4
        if not self._line_end and not self._find_line_end(buffer, start):
            return -1
        end = self._find_end(buffer, start)
        if end >= 0:
            self._line_end = self._searched = 0
        return end

    def _find_line_end(self, buffer: Buffer, start: int) -> bool:
        found = _LINE_END.search(buffer, start + self._searched, start + self._line_bytes + 1)
        if found is None:
            self._searched = len(buffer) - start
            if self._searched > self._line_bytes:
                raise too_large("first line", 414)
            return False
        position = found.start()
        mark = buffer[position : position + 2]
        if mark == b"\r":
            self._searched = position - start
            return False
        if mark != b"\r\n" or not self._first_line.fullmatch(buffer, start, position + 2):
            raise malformed("first line")
        self._line_end = self._searched = position + 2 - start
        return True

    def _find_end(self, buffer: Buffer, start: int) -> int:
        most = self._line_end + self._headers_bytes + 2
        # The CRLF of the first line is half of the mark where there are no fields.
        begin = max(self._line_end - 2, self._searched - 3)
        mark = buffer.find(_HEAD_END, start + begin, start + most)
        if mark >= 0:
            return mark + 4
        arrived = min(len(buffer) - start, most)
        # One byte back: a CR at the end of what was searched may have got the wrong neighbour.
        begin = max(self._line_end, self._searched - 1)
        if BARE.search(buffer, start + begin, start + arrived):
            raise malformed("bare CR or LF")
        if arrived == most:
            raise too_large("header fields", 431)
        self._searched = arrived
        return -1
