import json

from proxy.cli.record_table import RecordTable
from proxy.cli.record_text import csv_record, csv_row, timeline
from proxy.records.record_words import summary
from tests.records.kept import operation, record


def test_cells_that_begin_a_formula_are_defused_and_numbers_are_not() -> None:
    """-1.5 is a number, -x is what Excel runs."""
    assert csv_row(["=1", "+x", "-x", "@x", "-1.5", 2.5, "a,b", 'a"b', "\tx", None, True]) == (
        '\'=1,\'+x,\'-x,\'@x,-1.5,2.5,"a,b","a""b",\'\tx,,true'
    )


def test_records_without_what_is_expected_are_shown_all_the_same() -> None:
    """Of a later version, or broken."""
    for values in ({}, {"kind": "exchange"}, {"kind": "exchange", "attempts": 3, "time": 4}, {"kind": "unheard-of"}):
        for table in (RecordTable(wide=True), RecordTable(wide=False)):
            assert isinstance(table.row(values), str)
        assert isinstance(timeline(values), str)


def test_a_summary_says_who_did_what() -> None:
    """In the order in which people ask."""
    assert summary(json.loads(operation())) == "rollback, anna, too slow"


def test_a_caller_that_left_is_no_receiver() -> None:
    """When it left stands among what else happened; of older records only that it did."""
    values = json.loads(record(status=201, caller_left=True, left_at=100.005, finished=100.02))
    told = timeline(values)

    assert "201 from the bank: the caller left before it had all of it" in told
    assert "to the caller" not in told
    assert told.index("5.0 ms  the caller left") < told.index("201 from the bank")
    del values["caller_left_ms"]
    assert "the caller left before" in timeline(values)
    assert "no answer: the caller had left" in timeline({**values, "status": 0})


def test_no_control_character_is_in_a_cell() -> None:
    """A terminal obeys those of C1, too, and shows what is between marks of direction in another order."""
    row = csv_record(
        {"path": "/a\x1b[2J\x9b2J\x7f", "route": "a\u202eb\U000e0001\ud800", "index": {"request-id": "\x9d0;x\x9c"}}
    )

    assert "\\u001b[2J\\u009b2J\\u007f" in row
    assert "a\\u202eb\\udb40\\udc01\\ud800" in row
    assert row.isprintable()
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in row)
