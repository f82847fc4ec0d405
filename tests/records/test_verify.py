import json
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.records.chain import chained, link_of
from proxy.records.copies import Line
from proxy.records.log_finding import Severity
from proxy.records.pruned_range import PrunedRange, ranges_of
from proxy.records.sink_positions import Delivered
from proxy.records.verify import Expected, verify
from tests.records.chains import Writer, renamed, told, verdict, whole
from tests.records.support import CONTEXT


def test_a_whole_chain_has_no_flaw(tmp_path: Path) -> None:
    """From its start to its clean stop."""
    found = verdict(whole(tmp_path))

    assert told(found) == []
    assert found.holds
    known = found.chains[CONTEXT.instance]
    assert (known.first, known.last, known.records) == (1, 19, 19)
    assert known.signed_up_to == 18
    assert {key: signed.checkpoints for key, signed in known.keys.items()} == {Writer(tmp_path).key.public: 2}


def test_a_restart_after_a_clean_stop_is_no_flaw(tmp_path: Path) -> None:
    """The next start goes on where the stop was."""
    lines = Writer(tmp_path).start().exchanges(2).stop().start().exchanges(2).stop().lines

    assert told(verdict(lines)) == []


def test_a_start_without_a_stop_is_a_warning(tmp_path: Path) -> None:
    """Killed, or somebody cut the end off before the next start: the log says that it can't tell."""
    lines = Writer(tmp_path).start().exchanges(2).start().exchanges(2).stop().lines

    found = verdict(lines)

    assert told(found) == [("unclean", "4", 4)]
    assert found.holds
    assert found.findings[0].severity is Severity.WARNING


@pytest.mark.parametrize("ends", [0, 1, 3])
def test_an_end_without_a_stop_is_a_warning(tmp_path: Path, ends: int) -> None:
    """Unless the instance is known to run."""
    lines = Writer(tmp_path).start().exchanges(ends).lines

    assert told(verdict(lines)) == [("unclean", str(ends + 1), ends + 1)]
    assert told(verdict(lines, Expected(running=True))) == []


@settings(max_examples=60)
@given(st.integers(0, 18), st.data())
def test_a_flipped_bit_is_named(tmp_path_factory: pytest.TempPathFactory, at: int, data: st.DataObject) -> None:
    """Wherever it is, the first flaw names that line, and those behind it are not blamed for it."""
    lines = whole(tmp_path_factory.mktemp("chain"))
    byte = data.draw(st.integers(0, len(lines[at]) - 1))
    turned = bytearray(lines[at])
    turned[byte] ^= 1 << data.draw(st.integers(0, 7))
    lines[at] = bytes(turned)

    found = verdict(lines)

    assert not found.holds
    assert found.findings[0].place.name == str(at + 1)
    assert found.findings[0].kind in {"changed", "unreadable"}
    errors = [flaw for flaw in found.findings if flaw.severity is Severity.ERROR]
    assert len(errors) == 1


@pytest.mark.parametrize("at", range(1, 18))
def test_a_dropped_record_is_missing(tmp_path: Path, at: int) -> None:
    """It is named where the next one stands."""
    lines = whole(tmp_path)
    del lines[at]

    found = verdict(lines)

    assert told(found)[0] == ("missing", str(at + 1), at + 1)
    assert not found.holds


def test_several_dropped_records_are_one_flaw(tmp_path: Path) -> None:
    """With their first and last number."""
    lines = whole(tmp_path)
    del lines[3:8]

    found = verdict(lines)

    assert told(found) == [("missing", "4", 4)]
    assert "records 4 to 8 are missing" in str(found.findings[0])


@pytest.mark.parametrize("at", range(1, 17))
def test_swapped_records_are_reordered(tmp_path: Path, at: int) -> None:
    """The one that should have come before is named, with where it came."""
    lines = whole(tmp_path)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]

    found = verdict(lines)

    assert told(found)[0] == ("reordered", str(at + 1), at + 1)
    assert f"comes at {at + 2}" in str(found.findings[0])
    assert not found.holds


@pytest.mark.parametrize("at", range(19))
def test_a_duplicated_record_is_named(tmp_path: Path, at: int) -> None:
    """A warning: sinks get records at least once, and the same bytes twice tell nothing false."""
    lines = whole(tmp_path)
    lines.insert(at + 1, lines[at])

    found = verdict(lines)

    assert told(found) == [("duplicated", str(at + 2), at + 1)]
    assert found.holds


def test_what_a_killed_keeper_delivered_again_is_one_warning(tmp_path: Path) -> None:
    """A run of records comes again, then the chain goes on."""
    lines = Writer(tmp_path).start().exchanges(9).start().exchanges(2).stop().lines
    delivered = lines[:10] + lines[4:]

    found = verdict(delivered)

    assert told(found) == [("duplicated", "11", 5), ("unclean", "17", 11)]
    assert "records 5 to 10 come again" in str(found.findings[0])
    assert found.holds


def test_a_line_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    """It may be one that is being written."""
    lines = whole(tmp_path)
    written = [Line(line, str(number)) for number, line in enumerate(lines[:5])]

    assert ("cut", "6", 0) in told(verify([*written, Line(lines[5][:40], "6", whole=False)], Expected()))


def test_a_record_that_was_replaced_whole_is_named(tmp_path: Path) -> None:
    """Its own hash was made to fit; the next one still names the old."""
    lines = whole(tmp_path)
    link = link_of(lines[5])
    assert link is not None
    record = json.loads(lines[5])
    for name in ("sequence", "previous_hash", "hash"):
        del record[name]
    forged, _ = chained([json.dumps(record | {"status": 500}).encode()], sequence=5, previous_hash=link.previous_hash)
    lines[5:6] = forged

    found = verdict(lines)

    assert told(found) == [("replaced", "7", 7)]


def test_a_chain_written_anew_is_found_by_the_signature(tmp_path: Path) -> None:
    """Whoever recomputes all hashes behind a change can't sign the next checkpoint."""
    lines = whole(tmp_path)
    rewritten = _rewritten(lines, change=5)

    assert told(verdict(rewritten))[0] == ("forged", "12", 12)


def test_a_removed_data_directory_is_named(tmp_path: Path) -> None:
    """The chain begins anew in a file that goes on."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    lines = whole(tmp_path / "a") + whole(tmp_path / "b")

    found = verdict(lines)

    assert told(found) == [("begun_anew", "20", 1), ("key", "31", 12)]
    assert not found.holds


def test_a_fork_is_named(tmp_path: Path) -> None:
    """Another record of the same number: the log of a machine that lost its last writes, or of a clone."""
    first = Writer(tmp_path).start().exchanges(5)
    branch = Writer(tmp_path)
    branch.sequence, branch.hash = 3, json.loads(first.lines[2])["hash"]
    lines = first.lines + branch.start().exchanges(3).stop().lines

    assert told(verdict(lines))[0] == ("forked", "7", 4)


def test_what_was_pruned_is_no_flaw_where_a_record_says_so(tmp_path: Path) -> None:
    """At the beginning and in the middle, in one tombstone or several; one with another hash covers nothing."""
    writer = Writer(tmp_path).start().exchanges(10)
    old = list(writer.lines)
    stones = ranges_of([*old[:3], *old[4:7]])

    def pruned(rest: list[bytes], *stones: PrunedRange) -> list[tuple[str, str, int]]:
        branch = Writer(tmp_path)
        branch.sequence, branch.hash = writer.sequence, writer.hash
        branch.operation(stones)
        return told(verdict([*rest, *branch.stop().lines]))

    assert [(stone.first, stone.last) for stone in stones] == [(1, 3), (5, 7)]
    assert pruned([old[3], *old[7:]], *stones) == []
    assert pruned([old[3], *old[7:]], *stones[:1]) == [("missing", "2", 5)]
    assert pruned([old[3], *old[7:]], *stones[1:]) == [("begins_late", "1", 4)]
    assert pruned([old[3], *old[7:]], stones[0], replace(stones[1], hash="0" * 64)) == [("missing", "2", 5)]
    assert pruned(old[7:], *stones, *ranges_of(old[3:4])) == []
    assert pruned(old[8:], *stones, *ranges_of(old[3:4])) == [("begins_late", "1", 9)]
    assert pruned([old[3], *old[7:]], *(replace(stone, instance="host-2", hash="") for stone in stones)) == [
        ("missing", "2", 5),
        ("begins_late", "1", 4),
    ]
    # The host had another name then; the hash tells whose they were.
    assert pruned([old[3], *old[7:]], *(replace(stone, instance="host-2") for stone in stones)) == []


def test_instances_have_chains_of_their_own(tmp_path: Path) -> None:
    """A central log has them mixed; what is wrong with one is said of that one."""
    one, two = Writer(tmp_path, instance="host-1").start(), Writer(tmp_path, instance="host-2").start()
    mixed = one.lines + two.lines
    for _ in range(5):
        one.lines.clear()
        two.lines.clear()
        mixed += one.exchanges(1).lines + two.exchanges(2).lines
    one.lines.clear()
    two.lines.clear()
    mixed += one.stop().lines + two.stop().lines
    assert told(verdict(mixed)) == []

    del mixed[3]
    [flaw] = verdict(mixed).findings

    assert (flaw.kind, flaw.instance, flaw.sequence) == ("missing", "host-2", 2)


def test_a_chain_goes_on_under_another_name(tmp_path: Path) -> None:
    """A pod that was killed comes back with another hostname, and what it left still has the old one."""
    lines = renamed(tmp_path)

    found = verdict(lines)

    assert told(found) == [("unclean", "5", 5)]
    [known] = found.chains.values()
    assert (known.records, known.signed_up_to) == (len(lines), len(lines) - 1)
    assert list(known.names) == ["pod-b", "pod-a"]


@pytest.mark.parametrize("at", range(1, 10))
def test_a_record_dropped_from_a_chain_with_two_names_is_missing(tmp_path: Path, at: int) -> None:
    """Whichever name it had, also where the new name comes first: what was left over has the old one."""
    lines = renamed(tmp_path)
    del lines[at]

    errors = [flaw for flaw in verdict(lines).findings if flaw.severity is Severity.ERROR]

    assert (errors[0].kind, errors[0].sequence) == ("missing", at + 1)


def test_a_record_of_another_host_is_in_the_chain(tmp_path: Path) -> None:
    """`payproxy token` or `logs prune` was run there; it hides nothing of what stood before it."""
    writer = Writer(tmp_path).start().exchanges(3).called("the-node").exchanges(1)
    lines = writer.called(CONTEXT.instance).exchanges(3).stop().lines

    assert told(verdict(lines)) == []
    for gone in (slice(3, 4), slice(2, 4)):
        rest = list(lines)
        del rest[gone]
        assert ("missing", Severity.ERROR) in {(flaw.kind.value, flaw.severity) for flaw in verdict(rest).findings}


def test_hosts_that_swap_their_names_have_chains_of_their_own(tmp_path: Path) -> None:
    """Volumes that were swapped, in a central log that has both mixed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = Writer(tmp_path / "a", instance="host-1").start(), Writer(tmp_path / "b", instance="host-2").start()
    one.exchanges(2).stop().called("host-2").start().exchanges(2).stop()
    two.exchanges(3).stop().called("host-1").start().exchanges(2).stop()
    mixed = [line for pair in zip_longest(one.lines, two.lines) for line in pair if line is not None]

    found = verdict(mixed)

    assert told(found) == []
    assert {name: known.last for name, known in found.chains.items()} == {
        "host-1": len(one.lines),
        "host-2": len(two.lines),
    }


def test_a_gap_up_to_a_start_may_be_a_sink_that_was_not_configured(tmp_path: Path) -> None:
    """An error, since the same could have been removed, but the words say how to tell."""
    lines = Writer(tmp_path).start().exchanges(2).stop().start().exchanges(2).stop().start().exchanges(2).stop().lines
    [flaw] = [flaw for flaw in verdict(lines[:5] + lines[10:]).findings if flaw.severity is Severity.ERROR]

    assert flaw.what.startswith("records 6 to 10 are missing, up to a start: ")
    assert "this sink was not configured then" in flaw.what
    assert "configured" not in verdict(lines[:5] + lines[9:]).findings[0].what


def test_foreign_lines_are_unreadable(tmp_path: Path) -> None:
    """A line that is no record, before any chain is known."""
    found = verdict([b"hello", *whole(tmp_path)])

    assert told(found) == [("unreadable", "1", 0)]


def test_an_absurd_number_takes_no_memory(tmp_path: Path) -> None:
    """Somebody who can make hashes can make numbers too."""
    lines = whole(tmp_path)
    far, _ = chained([b'{"kind":"exchange","instance":"host-1"}'], sequence=10**15, previous_hash="0" * 64)

    assert told(verdict([*lines[:5], *far]))[0] == ("missing", "6", 6)


def test_causes_come_before_their_consequences(tmp_path: Path) -> None:
    """A changed record before what its columns say otherwise, missing ones before warnings that they explain."""
    lines = whole(tmp_path)
    changed = lines[4].replace(b'"status":200', b'"status":201')
    copy = [Line(line, str(number)) for number, line in enumerate(lines[2:16], start=3)]
    copy[2] = Line(changed, "5", differs="status is 200 in the table and 201 in the record")
    copy[5] = Line(b"", "month", differs="tallies differ from the records")

    found = verify(copy, Expected(database=True, delivered=Delivered(chain="", after=0, last=19)))

    assert told(found) == [
        ("changed", "5", 5),
        ("searched", "5", 5),
        ("missing", "9", 8),
        ("missing", "the keeper's positions", 19),
        ("searched", "month", 0),
        ("begins_late", "3", 3),
        ("unclean", "16", 16),
    ]


def _rewritten(lines: list[bytes], *, change: int) -> list[bytes]:
    """Return *lines* with a record changed and all hashes from there on made to fit."""
    kept = lines[:change]
    link = link_of(lines[change - 1])
    assert link is not None
    records = []
    for number, line in enumerate(lines[change:]):
        record = json.loads(line)
        for name in ("sequence", "previous_hash", "hash"):
            del record[name]
        if number == 0:
            record["status"] = 500
        records.append(json.dumps(record, separators=(",", ":")).encode())
    made, _ = chained(records, sequence=change, previous_hash=link.hash)
    return kept + made
