"""Where TLS records end, in any pieces."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.tls_records import MOST_RECORDS, TlsRecords

LENGTHS = st.lists(st.integers(0, 40) | st.integers(0, 16640), max_size=200)


@given(lengths=LENGTHS, parts=st.lists(st.integers(1, 50_000), max_size=20), first=st.integers(1, 9))
def test_records_are_counted_in_any_pieces(lengths: list[int], parts: list[int], first: int) -> None:
    """No piece completes more than 64, and together they complete all."""
    stream = b"".join(b"\x17\x03\x03" + length.to_bytes(2) + bytes(length) for length in lengths)
    records, counts, at = TlsRecords(), list[int](), 0
    for size in [first, *parts, len(stream) or 1]:
        raw = memoryview(stream[at : at + size])
        end = 0
        while end < len(raw):
            start = end
            end = records.end_of_piece(raw, start, len(raw))
            assert start < end <= len(raw)
            counts.append(records.ended)
        at += len(raw)
    assert sum(counts) == len(lengths)
    assert max(counts, default=0) <= MOST_RECORDS


def test_a_piece_of_many_ends_with_a_record() -> None:
    """What follows is another piece."""
    stream = (b"\x17\x03\x03\x00\x02ab") * 100
    assert TlsRecords().end_of_piece(memoryview(stream), 0, len(stream)) == 7 * MOST_RECORDS
