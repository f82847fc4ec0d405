"""Where TLS records end: their heads are never encrypted (RFC 8446 5.1, RFC 5246 6.2.1)."""

from typing import Any, Final

_HEAD_BYTES: Final = 5
# At most so many in one piece: a key update of 27 bytes costs OpenSSL 15 us.
MOST_RECORDS: Final = 64


class TlsRecords:
    """Divides the bytes of a connection into pieces of few records, and counts those that a piece completes."""

    __slots__ = ("_left", "_seen", "ended")

    def __init__(self) -> None:
        self.ended = 0  # records that the last piece completed
        self._left = 0  # bytes that are missing of the record whose head has come
        self._seen = 0  # bytes of the next head that have come

    def __repr__(self) -> str:
        return f"<TlsRecords {self._left} bytes to come>"

    def end_of_piece(self, raw: Any, start: int, most: int) -> int:
        """Return where the piece of *raw* from *start* ends: after 64 records, else at *most*."""
        self.ended = 0
        at = start
        while at < most and self.ended < MOST_RECORDS:
            if self._seen < _HEAD_BYTES:
                at = self._read_head(raw, at, most)
                if self._seen < _HEAD_BYTES:
                    break
            part = min(self._left, most - at)
            at += part
            self._left -= part
            if not self._left:
                self.ended += 1
                self._seen = 0
        return at

    def _read_head(self, raw: Any, at: int, most: int) -> int:
        if not self._seen and most - at >= _HEAD_BYTES:
            self._left = raw[at + 3] << 8 | raw[at + 4]
            self._seen = _HEAD_BYTES
            return at + _HEAD_BYTES
        while at < most and self._seen < _HEAD_BYTES:  # a head in parts; only its last two bytes are the length
            self._left = (self._left & 0xFF) << 8 | raw[at]
            self._seen += 1
            at += 1
        return at
