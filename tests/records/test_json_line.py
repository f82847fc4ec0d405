import json

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Sent
from proxy.records.chain import chained, link_of
from proxy.records.json_line import line, plain_encoder, quoted

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.sampled_from(Sent)
MILLISECONDS = st.integers(0, 10**9).map(lambda number: number / 1000)
VALUES = st.recursive(SCALARS | MILLISECONDS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=8))
def test_both_encoders_write_the_same_bytes(record: dict[str, object]) -> None:
    """A record doesn't depend on whether orjson is installed."""
    assert plain_encoder(record) == orjson.dumps(record)


@given(st.text(st.characters()))
def test_any_string_makes_one_readable_line(text: str) -> None:
    """Bytes that are no UTF-8 become readable escapes, line feeds stay inside, NUL never appears raw."""
    data = line({"kind": "exchange", "path": text})

    assert data.count(b"\n") == 1
    assert b"\0" not in data
    assert json.loads(data)["path"] == text.encode(errors="backslashreplace").decode()


def test_lone_surrogates_are_written_as_escapes() -> None:
    """A target with the byte FF, as aiohttp hands it over, is told as such."""
    assert json.loads(line({"path": "/\udcff", "keys": ("\udc80",)})) == {"path": "/\\udcff", "keys": ["\\udc80"]}


@given(st.text(st.characters(max_codepoint=0x110, exclude_categories=["Cs"])))
def test_no_control_character_is_in_a_line(text: str) -> None:
    """C1 and DEL are escaped like those of C0, since terminals obey them; the value is the same, and the hash fits."""
    written = line({"kind": "x", "path": text})

    assert json.loads(written) == {"kind": "x", "path": text}
    assert json.loads(quoted(text)) == text
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in written[:-1].decode())
    [link] = map(link_of, chained([written], sequence=0, previous_hash="0" * 64)[0])
    assert link is not None
    assert link.intact
