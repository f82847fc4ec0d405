"""A CSV report of any size, the same bytes every time, made while it is sent."""

from collections.abc import Iterator

_ROW = 64
_ROWS = 1024
BLOCK = _ROW * _ROWS
_REST = b"".join(
    (b"row,%06d,2026-01-31,USD,1234567.89,settled,ACME CORP" % row).ljust(_ROW - 1) + b"\n" for row in range(1, _ROWS)
)


def report_blocks(size: int) -> Iterator[bytes]:
    """Yield *size* bytes of CSV in blocks of 64 KiB; each block begins with a row that carries its number."""
    for number in range((size + BLOCK - 1) // BLOCK):
        first = b"block,%010d" % number
        yield (first.ljust(_ROW - 1) + b"\n" + _REST)[: size - number * BLOCK]
