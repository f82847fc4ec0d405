import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.records.chain import GENESIS, ChainLink, chained, link_of

RECORDS = [b'{"kind":"exchange","id":"%d"}' % number for number in range(4)]


def test_each_record_names_the_one_before() -> None:
    """The first names 64 zeros, and the last one's hash is what the next will name."""
    lines, last = chained(RECORDS, sequence=0, previous_hash=GENESIS)

    values = [json.loads(line) for line in lines]
    assert [value["sequence"] for value in values] == [1, 2, 3, 4]
    assert [value["previous_hash"] for value in values] == [GENESIS, *(value["hash"] for value in values[:-1])]
    assert values[-1]["hash"] == last


def test_the_hash_is_of_the_exact_bytes_before_it() -> None:
    """Anybody can check it with sha256sum: cut the line at `,"hash":`."""
    [line], last = chained(RECORDS[:1], sequence=41, previous_hash="ab" * 32)

    before, cut, rest = line.partition(b',"hash":')
    assert cut
    assert before == RECORDS[0][:-1] + b',"sequence":42,"previous_hash":"' + b"ab" * 32 + b'"'
    assert rest == b'"%b"}' % hashlib.sha256(before).hexdigest().encode()
    assert last == hashlib.sha256(before).hexdigest()


def test_batches_make_the_same_chain() -> None:
    """How many records came at once leaves no trace."""
    at_once, last = chained(RECORDS, sequence=0, previous_hash=GENESIS)
    first, middle = chained(RECORDS[:1], sequence=0, previous_hash=GENESIS)
    rest, end = chained(RECORDS[1:], sequence=1, previous_hash=middle)

    assert first + rest == at_once
    assert end == last
    assert chained([], sequence=4, previous_hash=last) == ([], last)


def test_a_link_is_read_from_the_last_bytes() -> None:
    """Nothing is parsed, so that what a caller wrote into its path can't pretend to be the place."""
    record = b'{"path":"%b"}' % b',\\"sequence\\":9,\\"previous_hash\\":\\"\\",\\"hash\\":\\"\\"}'
    [line], last = chained([record], sequence=6, previous_hash="cd" * 32)

    assert link_of(line) == ChainLink(7, "cd" * 32, last, intact=True)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"sequence":1}', RECORDS[0], b"x" * 10_000])
def test_what_has_no_place_says_so(line: bytes) -> None:
    """A line of something else is no record of a chain."""
    assert link_of(line) is None


@given(st.binary(max_size=200), st.integers(0, 10**9), st.data())
def test_no_byte_can_be_changed_unnoticed(content: bytes, sequence: int, data: st.DataObject) -> None:
    """Wherever a bit is turned over, the place is gone, another, or not intact."""
    record = json.dumps({"kind": "exchange", "path": content.decode("latin-1")}).encode()
    [line], _ = chained([record], sequence=sequence, previous_hash="ef" * 32)
    at = data.draw(st.integers(0, len(line) - 1))
    turned = bytearray(line)
    turned[at] ^= 1 << data.draw(st.integers(0, 7))

    link = link_of(bytes(turned))

    assert link is None or not link.intact
