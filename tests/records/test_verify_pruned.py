import json
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.records.anchor import anchors_in
from proxy.records.chain import GENESIS, chained
from proxy.records.pruned_range import PrunedRange, ranges_of
from proxy.records.verify import Expected
from tests.records.chains import Writer, told, verdict, whole
from tests.records.test_verify_anchors import numbered

INVENTED = "f" * 16


def a_lie(stone: PrunedRange, **members: object) -> bytes:
    """Return a whole record of an invented instance that says that *stone* was pruned."""
    record = {"kind": "operation", "instance": "host-9", "pruned": [stone.as_dict()], **members}
    [line], _ = chained([json.dumps(record).encode()], sequence=0, previous_hash=GENESIS)
    return line


@pytest.mark.parametrize("chain", ["", INVENTED])
@pytest.mark.parametrize("at", [5, 0])
def test_an_invented_tombstone_covers_nothing(tmp_path: Path, chain: str, at: int) -> None:
    """Anyone can make a record whose hash is right: without a signature it removes nothing."""
    lines = whole(tmp_path)
    anchors, _ = anchors_in(numbered([lines[11], lines[18]]))
    [stone] = ranges_of(lines[at : at + 1])
    members = {"chain": chain} if chain else {}
    del lines[at]

    for trusted in (frozenset[str](), frozenset({Writer(tmp_path).key.public})):
        found = verdict([*lines, a_lie(stone, **members)], Expected(anchors=anchors, trusted=trusted, database=True))
        faults = {(fault, sequence) for fault, _, sequence in told(found)}
        assert ("missing" if at else "begins_late", at + 1 if at else 2) in faults
        assert not found.holds or not (at or trusted)
        assert (("forged", 1) in faults) == bool(trusted)
    if at:
        assert "a record says that they were pruned, but no key of that chain" in str(found.findings[0])


def test_a_tombstone_by_a_strangers_key_covers_nothing(tmp_path: Path) -> None:
    """Whether he signs a chain of his own, the list itself, or goes on with this chain under another key."""
    (tmp_path / "own").mkdir()
    (tmp_path / "his").mkdir()
    lines = whole(tmp_path / "own")
    stones = tuple(ranges_of(lines[5:6]))
    his = Writer(tmp_path / "his", instance="host-9", chain=INVENTED)
    apart = his.start().operation(stones, signed=True).checkpoint().lines
    behind = Writer(tmp_path / "his")
    behind.sequence, behind.hash = 19, json.loads(lines[18])["hash"]
    behind.start().operation(stones, signed=True).stop()
    del lines[5]

    for more in (apart, behind.lines):
        for trusted in (frozenset[str](), frozenset({Writer(tmp_path / "own").key.public})):
            found = verdict([*lines, *more], Expected(trusted=trusted, shared=True))
            assert ("missing", "6", 6) in told(found)


def test_a_tombstone_does_not_cover_its_own_insertion(tmp_path: Path) -> None:
    """In place of a record, with what follows removed up to where the chain goes on, it is signed by the next one."""
    lines = whole(tmp_path)
    [stone] = ranges_of(lines[5:8])
    before = json.loads(lines[3])
    record = {"kind": "operation", "instance": before["instance"], "pruned": [stone.as_dict()]}
    made, _ = chained([json.dumps(record).encode()], sequence=4, previous_hash=before["hash"])

    found = verdict([*lines[:4], *made, *lines[8:]])

    assert ("missing", "6", 6) in told(found)


def test_a_signed_tombstone_counts_wherever_it_stands(tmp_path: Path) -> None:
    """The proxy's own key is behind it; of another instance, in a shared database, if that key is trusted."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = Writer(tmp_path / "a", chain="a" * 16).start().exchanges(3)
    theirs = Writer(tmp_path / "b", instance="host-2", chain="b" * 16).start().exchanges(3).checkpoint()
    stones = tuple(ranges_of([ours.lines[1], *theirs.lines[1:3]]))
    assert [stone.chain for stone in stones] == ["a" * 16, "b" * 16]
    ours.operation(stones, signed=True)
    theirs.stop()
    kept = [ours.lines[0], *ours.lines[2:], theirs.lines[0], *theirs.lines[3:]]
    key = ours.key.public

    assert told(verdict(kept, Expected(running=True, shared=True, trusted=frozenset({key}), own_chain="a" * 16))) == []
    alone = verdict(
        kept, Expected(running=True, shared=True, trusted=frozenset({theirs.key.public}), own_chain="b" * 16)
    )
    assert [(flaw.kind, flaw.sequence, flaw.instance) for flaw in alone.findings] == [("missing", 2, "host-2")]
    forged = (replace(stones[0], first=1), *stones[1:])
    lie = a_lie(stones[0], pruned=[one.as_dict() for one in forged], pruned_by={"public_key": key, "signature": "AA=="})
    assert ("missing", 2) in {
        (fault, at) for fault, _, at in told(verdict([*theirs.lines[:1], *theirs.lines[3:], lie]))
    }


@pytest.mark.parametrize("gone", [slice(1, 7), slice(1, 6)], ids=["stop-and-checkpoint", "stop"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_stop_that_was_pruned_was_a_stop(tmp_path: Path, gone: slice, first: int) -> None:
    """The start after it follows what is not here any more: whether it was clean can't be said, so nothing is."""
    writer = Writer(tmp_path).start().exchanges(4).stop()  # 1, 2 to 5, stop 6, checkpoint 7
    stones = tuple(ranges_of(writer.lines[gone if first else slice(gone.stop)]))
    del writer.lines[gone if first else slice(gone.stop)]

    lines = writer.start().exchanges(1).operation(stones, signed=True).stop().lines

    assert told(verdict(lines)) == []


@pytest.mark.parametrize("gone", [slice(1, 4), slice(4, 5)], ids=["others-pruned", "missing"])
def test_a_kill_is_told_though_records_were_pruned(tmp_path: Path, gone: slice) -> None:
    """The record before the start is here and is no stop, or it is missing and no record accounts for it."""
    writer = Writer(tmp_path).start().exchanges(4)
    stones = tuple(ranges_of(writer.lines[1:4]))
    del writer.lines[gone]
    place = len(writer.lines) + 1

    lines = writer.start().operation(stones, signed=True).stop().lines

    assert ("unclean", str(place), 6) in told(verdict(lines))


@pytest.mark.parametrize("number", [3, 7], ids=["others-pruned", "stop-pruned"])
def test_a_prune_between_stop_and_start_is_no_kill(tmp_path: Path, number: int) -> None:
    """The command records what it did, behind the stop; an instance need not run for that."""
    writer = Writer(tmp_path).start().exchanges(4).stop()
    stones = tuple(ranges_of(writer.lines[:number]))
    del writer.lines[:number]
    trusting = Expected(trusted=frozenset({writer.key.public}))

    assert told(verdict(writer.operation(stones, signed=True).lines, trusting)) == []
    assert told(verdict(writer.start().exchanges(1).stop().lines)) == []
