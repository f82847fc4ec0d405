import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.records.months import Month
from proxy.records.sinks.row import ENTRY_BYTES, UNREADABLE, groups, value_key
from tests.records.kept import id_of, kept, operation, record
from tests.records.support import NOW

MONTH = Month(2027, 1)
NEXT = 1_801_440_000.0  # 2027-02-01


def test_an_exchange_becomes_a_row() -> None:
    """With what is searched for most beside its exact bytes."""
    (line,) = kept([record(status=502, index=(("merchant-id", "998"),))])
    (group,) = groups([line])

    assert group.month == MONTH
    assert group.rows == [(id_of(line), "exchange", "erp", 502, "yes", line)]
    assert group.entries == [value_key(b"998") + id_of(line)]
    assert len(group.entries[0]) == ENTRY_BYTES


def test_a_record_is_not_parsed_whole() -> None:
    """That took the sinks' thread three times as long; what nobody searches by may be anything."""
    whole = record(status=502, index=(("merchant-id", "998"),))
    line = whole.replace(b'"attempts":[', b'"attempts":[!')
    (group,) = groups([line])

    assert group.rows == [(id_of(whole), "exchange", "erp", 502, "yes", line)]
    assert group.entries == [value_key(b"998") + id_of(whole)]


def test_members_in_another_order_mean_the_same() -> None:
    """As releases before wrote them: the index came last but one."""
    line = record(status=502, index=(("merchant-id", "998"),))
    told = json.loads(line)
    index, digest = told.pop("index"), told.pop("config_digest")
    before = json.dumps(told | {"index": index, "config_digest": digest}, separators=(",", ":")).encode()
    (now,), (then,) = groups([line]), groups([before])

    assert then.rows == [(*now.rows[0][:-1], before)]
    assert (then.entries, then.tallies) == (now.entries, now.tallies)


def test_a_header_given_twice_is_found_by_each_value() -> None:
    """And by both."""
    (group,) = groups([record(index=(("request-id", "a"), ("request-id", "b")))])

    assert {entry[:8] for entry in group.entries} == {value_key(b"a, b"), value_key(b"a"), value_key(b"b")}


def test_a_value_is_entered_once_however_often_it_was_given() -> None:
    """In one header or in several: callers choose what stands there."""
    often = ", ".join(["x"] * 100)
    (line,) = kept([record(index=(("request-id", often), ("merchant-id", "x")))])

    assert groups([line])[0].entries == [value_key(value) + id_of(line) for value in (often.encode(), b"x")]


def test_other_kinds_become_rows_too() -> None:
    """They have no status and were not sent."""
    line = operation()

    assert groups([line])[0].rows == [(id_of(line), "operation", "", 0, "", line)]


def test_records_are_divided_by_month() -> None:
    """Each month keeps its order; one that is late joins its month."""
    lines = [record(NEXT - 2), record(NEXT - 1), record(NEXT), record(NEXT - 0.5), record(NEXT + 1)]
    made = groups(lines)

    assert [group.month for group in made] == [MONTH, MONTH.next]
    assert [[row[-1] for row in group.rows] for group in made] == [
        [lines[0], lines[1], lines[3]],
        [lines[2], lines[4]],
    ]


def test_requests_are_counted_by_day() -> None:
    """Also where those of two days alternate around midnight (UTC); the last one is the latest, whenever it came."""
    lines = [record(NEXT - 2), record(NEXT + 3), record(NEXT - 1, status=404), record(NEXT + 1), record(NEXT - 1.5)]
    made = groups(lines)
    key = ("payments", "modern", "", "erp")
    day = int(NEXT) // 86400

    assert [group.tallies.keys() for group in made] == [{(*key, day - 1)}, {(*key, day)}]
    assert made[0].tallies[*key, day - 1].columns == (3, 0, 0, 0, 1, 2, int(NEXT - 1) * 1000)
    assert made[1].tallies[*key, day].columns == (2, 0, 0, 0, 0, 2, int(NEXT + 3) * 1000)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"kind":"exchange"}',
        b'{"kind":"exchange","id":"zz"}',
        b'{"kind":"exchange","id":"0190163d-8694-4b84-a5ba-79a4f6ba2f3b"}',
        b'{"kind":"exchange","id":"ffffffff-ffff-7b84-a5ba-79a4f6ba2f3b"}',
        b'{"kind":"exchange","id":7}',
        b"\xff\xfe",
        record().replace(b'"index":{}', b'"index":{"a":1}'),
        record().replace(b'"caller":"erp",', b""),
    ],
)
def test_what_is_broken_is_kept_beside_the_record_before_it(broken: bytes) -> None:
    """A database that refused it would hold up all that follow."""
    before, after = record(), record(NOW + 1)
    (group,) = groups([before, broken, after])

    assert [row[-1] for row in group.rows] == [before, broken, after]
    assert group.rows[1][1] == UNREADABLE
    assert MONTH.first_id <= group.rows[1][0] < MONTH.end_id
    assert groups([broken])[0].rows[0][-1] == broken
    assert groups([broken])[0].rows == groups([broken])[0].rows


def test_without_orjson_the_same_comes_of_it() -> None:
    """The extra only makes it faster."""
    line = kept([record(index=(("merchant-id", "äö"),))])[0]
    program = (
        "import sys; sys.modules['orjson'] = None\n"
        "from proxy.records.sinks.row import groups\n"
        "print(groups([sys.stdin.buffer.read()])[0].entries[0].hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=line, capture_output=True, check=True, cwd=Path(__file__).parents[3]
    )

    assert json.loads(line)["index"]["merchant-id"] == "äö"
    assert done.stdout.decode().strip() == groups([line])[0].entries[0].hex()


_TEXTS = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    [
        '","status":500,"x":"',
        '],"status":',
        ',"attempts":[',
        '"',
        "\\",
        "a, b",
        ',"index":{}',
        '{},"config_digest":',
        "",
    ]
)


@given(
    caller=_TEXTS,
    route=_TEXTS,
    path=_TEXTS,
    side=_TEXTS,
    why=_TEXTS,
    cause=_TEXTS,
    status=st.integers(0, 599),
    index=st.lists(
        st.tuples(st.sampled_from(["path", "status", "config_digest", "replayed", 'x","y']), _TEXTS), max_size=2
    ),
    answer_index=st.lists(st.tuples(st.sampled_from(["path", "duration_ms", "answer_index", "x"]), _TEXTS), max_size=2),
    query=st.lists(_TEXTS, max_size=2).map(lambda names: "?" + "&".join(names)),
)
def test_what_is_read_by_places_is_what_parsing_finds(**values: Any) -> None:
    """Whatever stands in a value, if it looks like a member or not."""
    members: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    line = kept([record(**members)])[0]
    # A line with another member first is read by parsing it.
    parsed = line.replace(b'"version":1', b'"version":10', 1)
    (one,), (other,) = groups([line]), groups([parsed])

    assert one.rows[0][1] == "exchange"
    assert one.rows[0][:-1] == other.rows[0][:-1]
    assert (one.entries, one.tallies) == (other.entries, other.tallies)
    told = json.loads(line)
    assert one.rows[0][2:5] == (told["caller"], told["status"], told["sent_upstream"])
