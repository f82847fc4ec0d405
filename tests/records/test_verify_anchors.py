import json
from pathlib import Path

import pytest

from proxy.records.anchor import anchors_in
from proxy.records.checkpoint_key import checkpoint_key
from proxy.records.pruned_range import ranges_of
from proxy.records.verify import Expected, VerifyResult
from tests.records.chains import Writer, told, verdict, whole
from tests.records.support import CONTEXT


def numbered(lines: list[bytes]) -> list[tuple[bytes, str]]:
    """Return *lines* with their numbers as places."""
    return [(line, f"anchor:{number}") for number, line in enumerate(lines, start=1)]


@pytest.mark.parametrize("left", range(1, 18))
def test_a_cut_end_is_a_warning_and_with_an_anchor_an_error(tmp_path: Path, left: int) -> None:
    """Without something kept elsewhere nobody can know what came after the last record."""
    lines = whole(tmp_path)
    anchors, flaws = anchors_in(numbered(lines[-1:]))

    alone = verdict(lines[:left])
    anchored = verdict(lines[:left], Expected(anchors=anchors))

    assert not flaws
    assert told(alone) == [("unclean", str(left), left)]
    assert ("missing", "anchor:1", 18) in told(anchored)
    assert f"{left + 1} to 18 are missing" in str(anchored.findings[0])
    assert not anchored.holds


def test_a_chain_with_another_key_is_found_by_anchor_and_by_key(tmp_path: Path) -> None:
    """Whoever also makes a key of his own is found by what was kept elsewhere, and by the data directory's key."""
    (tmp_path / "own").mkdir()
    (tmp_path / "his").mkdir()
    lines = whole(tmp_path / "own")
    anchors, _ = anchors_in(numbered(lines))
    his = whole(tmp_path / "his")

    by_anchor = verdict(his, Expected(anchors=anchors))
    by_key = verdict(his, Expected(trusted=frozenset({Writer(tmp_path / "own").key.public})))

    assert [fault for fault, *_ in told(by_anchor)] == ["rewritten", "key", "rewritten", "key"]
    assert told(by_key) == [("key", "12", 12)]
    assert not by_anchor.holds
    assert not by_key.holds


def test_a_log_kept_elsewhere_is_an_anchor(tmp_path: Path) -> None:
    """Records of other kinds are passed over, and an anchor that holds says nothing."""
    lines = whole(tmp_path)
    anchors, flaws = anchors_in(numbered([b"a line of something else", *lines, b"{", b"[]"]))

    assert [anchor.claim.sequence for anchor in anchors] == [11, 18]
    assert not flaws
    assert told(verdict(lines, Expected(anchors=anchors))) == []


def test_a_forged_anchor_is_no_anchor(tmp_path: Path) -> None:
    """Its signature is checked too."""
    record = json.loads(whole(tmp_path)[-1])
    record["checkpoint"]["sequence"] = 4711

    anchors, flaws = anchors_in([(json.dumps(record).encode(), "anchor:1")])

    assert not anchors
    assert [(flaw.kind.value, str(flaw.place)) for flaw in flaws] == [("forged", "anchor:1")]


def test_an_anchor_of_a_log_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """Nothing at all is left of what it saw."""
    anchors, _ = anchors_in(numbered(whole(tmp_path)[-1:]))

    assert told(verdict([], Expected(anchors=anchors))) == [("missing", "anchor:1", 18)]


def test_an_anchor_before_the_first_record_is_a_warning(tmp_path: Path) -> None:
    """Older files are not here, so that it can't be compared."""
    lines = whole(tmp_path)
    anchors, _ = anchors_in(numbered(lines[11:12]))

    found = verdict(lines[12:], Expected(anchors=anchors))

    assert told(found) == [("begins_late", "1", 13), ("anchor", "anchor:1", 11)]
    assert found.holds


def test_what_a_database_must_have_had_is_missing(tmp_path: Path) -> None:
    """The anchor was kept under the configuration that the database still has; only `logs prune` takes records away."""
    lines = Writer(tmp_path).start().exchanges(3).checkpoint().exchanges(3).checkpoint().exchanges(1).stop().lines
    anchors, _ = anchors_in(numbered(lines[4:5]))

    found = verdict(lines[6:], Expected(anchors=anchors, database=True))

    assert told(found) == [("missing", "anchor:1", 4), ("begins_late", "1", 7)]
    assert "records 4 to 6 are missing" in found.findings[0].what
    assert not found.holds
    assert verdict(lines[6:], Expected(anchors=anchors)).holds


def test_a_database_that_was_switched_on_later_lacks_nothing(tmp_path: Path) -> None:
    """There was another configuration when the anchor was kept, also if what that left comes first."""
    writer = Writer(tmp_path).start().exchanges(3).checkpoint().exchanges(2)
    anchors, _ = anchors_in(numbered(writer.lines[4:5]))
    lines = writer.called(CONTEXT.instance, config_digest="1" * 16).start().exchanges(2).stop().lines

    found = verdict(lines[6:], Expected(anchors=anchors, database=True))

    assert told(found) == [("begins_late", "1", 7), ("unclean", "2", 8), ("anchor", "anchor:1", 4)]
    assert found.holds


@pytest.mark.parametrize("name", ["host-1", "pod-b"])
def test_what_was_pruned_was_not_removed(tmp_path: Path, name: str) -> None:
    """A record says so, whether it is in the log already or still on its way; also of a host that has a new name."""
    writer = Writer(tmp_path).start().exchanges(3).checkpoint().called(name).start().exchanges(3).checkpoint()
    anchors, _ = anchors_in(numbered(writer.lines[4:5]))
    left, stones = writer.lines[7:], tuple(ranges_of(writer.lines[:7]))

    def anchored(lines: list[bytes], stream: VerifyResult) -> list[tuple[str, str, int]]:
        return told(verdict(lines, Expected(anchors=anchors, database=True, running=True, stream=stream)))

    waiting = anchored(left, VerifyResult(pruned=dict.fromkeys(stones, frozenset({writer.key.public}))))
    writer.operation(stones).checkpoint()

    assert anchored([*left, *writer.lines[-2:]], VerifyResult()) == waiting
    assert waiting[-1] == ("anchor", "anchor:1", 4)
    assert ("missing", "anchor:1", 4) in anchored(left, VerifyResult())


def test_what_the_stream_still_has_is_on_its_way(tmp_path: Path) -> None:
    """A sink that lags; if the stream begins too late, or is another one, the records are gone."""
    lines = whole(tmp_path)
    (tmp_path / "other").mkdir()
    anchors, _ = anchors_in(numbered(lines[-1:]))

    def lagging(stream: list[bytes]) -> VerifyResult:
        return verdict(lines[:9], Expected(anchors=anchors, running=True, stream=verdict(stream)))

    assert told(lagging(lines[5:])) == told(lagging(lines[9:])) == [("anchor", "anchor:1", 18)]
    assert "records 10 to 18 have not come here yet" in str(lagging(lines).findings[0])
    for stream in ([], lines[10:], lines[:17], whole(tmp_path / "other")):
        assert told(lagging(stream)) == [("missing", "anchor:1", 18)]


def test_the_key_is_the_data_directorys(tmp_path: Path) -> None:
    """What verify compares with is what signed."""
    lines = whole(tmp_path)
    key = checkpoint_key(tmp_path, entropy=None).public  # type: ignore[arg-type]  # it is there already

    assert told(verdict(lines, Expected(trusted=frozenset({key})))) == []
