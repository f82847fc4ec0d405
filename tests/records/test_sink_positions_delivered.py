import asyncio
import json
import shutil
from pathlib import Path

import pytest

from proxy.records.sink_positions import Delivered, delivered
from proxy.records.verify import Expected
from tests.records.chains import Writer, told, verdict, whole
from tests.records.support import MemorySink, an_exchange, complete, open_journal, running_shipper, until

NAME = MemorySink().name


class Somewhere(MemorySink):
    """A sink that writes to a place."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target


def ship(directory: Path, target: str, *, exchanges: int, before: int = 0) -> None:
    """Let *exchanges*, which come after *before* others, reach a sink at *target*, and stop."""

    async def run() -> None:
        sink = Somewhere(target)
        async with open_journal(directory) as journal, running_shipper(directory, sink) as shipper:
            for _ in range(exchanges):
                await complete(journal, an_exchange())
            await until(lambda: shipper._stream.end.sequence >= before + exchanges and not shipper.backlog_records)

    asyncio.run(run())


def test_what_a_sink_confirmed_is_known(tmp_path: Path) -> None:
    """Since when, up to which record and hash; from the start of the first one on."""
    ship(tmp_path, "there", exchanges=3)

    known = delivered(tmp_path, NAME, target="there")

    assert known is not None
    assert (known.after, known.last) == (0, 3)
    assert len(known.hash) == 64
    assert delivered(tmp_path, "another", target="there") is None


def test_what_went_elsewhere_is_not_demanded(tmp_path: Path) -> None:
    """The database was replaced by another: until the next start nothing is known, then it begins where it begins."""
    ship(tmp_path, "there", exchanges=3)
    assert delivered(tmp_path, NAME, target="elsewhere") is None

    ship(tmp_path, "elsewhere", exchanges=2, before=3)

    known = delivered(tmp_path, NAME, target="elsewhere")
    assert known is not None
    assert (known.after, known.last) == (3, 5)


def test_positions_of_an_older_version_demand_nothing_that_was_before(tmp_path: Path) -> None:
    """It did not note since when; what comes from now on is."""
    ship(tmp_path, "there", exchanges=3)
    (tmp_path / "stream" / "sinks.json").unlink()
    known = delivered(tmp_path, NAME, target="there")
    assert known is not None
    assert (known.after, known.last) == (None, 3)

    ship(tmp_path, "there", exchanges=1, before=3)

    known = delivered(tmp_path, NAME, target="there")
    assert known is not None
    assert (known.after, known.last) == (3, 4)


def test_positions_that_were_lost_are_not_ahead_of_what_was_delivered(tmp_path: Path) -> None:
    """All that is kept comes again, and counts from its own numbers."""
    ship(tmp_path, "there", exchanges=3)
    (tmp_path / "stream" / "positions.json").unlink()

    ship(tmp_path, "there", exchanges=1, before=3)

    positions = json.loads((tmp_path / "stream" / "positions.json").read_bytes())
    assert positions[NAME][2] == 4


@pytest.mark.parametrize("left", [0, 1, 9, 18])
def test_a_cut_end_is_an_error(tmp_path: Path, left: int) -> None:
    """Also after a clean stop, when nobody expects more, and though the stream still has it."""
    lines = whole(tmp_path)
    claim = Delivered(chain="", after=0, last=19, hash=json.loads(lines[18])["hash"])

    found = verdict(lines[:left], Expected(database=True, delivered=claim, stream=verdict(lines)))

    assert told(found)[0][::2] == ("missing", 19)
    assert f"records {left + 1} to 19 are missing" in found.findings[0].what
    assert not found.holds
    assert told(verdict(lines, Expected(database=True, delivered=claim))) == []


def test_a_beginning_that_was_taken_away_is_an_error(tmp_path: Path) -> None:
    """The first month's file was deleted, otherwise than by `logs prune`; of what came before the sink none is."""
    lines = whole(tmp_path)

    def found(after: int | None) -> list[tuple[str, str, int]]:
        claim = Delivered(chain="", after=after, last=19)
        return told(verdict(lines[6:], Expected(database=True, delivered=claim)))

    assert [fault for fault, *_ in found(0)] == ["missing", "begins_late"]
    assert [fault for fault, *_ in found(6)] == [fault for fault, *_ in found(None)] == ["begins_late"]


def test_an_end_of_another_chain_is_an_error(tmp_path: Path) -> None:
    """As many records, whole and signed, but not those that were written."""
    lines = whole(tmp_path)
    claim = Delivered(chain="", after=0, last=19, hash="1" * 64)

    assert [fault for fault, *_ in told(verdict(lines, Expected(database=True, delivered=claim)))] == ["rewritten"]


def test_in_a_shared_database_it_is_this_chain_that_must_be_there(tmp_path: Path) -> None:
    """Others may have whatever they have."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = Writer(tmp_path / "a", chain="a" * 16).start().exchanges(3).stop()
    theirs = Writer(tmp_path / "b", chain="b" * 16).start().exchanges(9).stop()
    claim = Delivered(chain="a" * 16, after=0, last=ours.sequence)

    def found(lines: list[bytes]) -> list[str]:
        return [fault for fault, *_ in told(verdict(lines, Expected(shared=True, database=True, delivered=claim)))]

    assert found([*ours.lines, *theirs.lines]) == ["begun_anew"]
    assert found(theirs.lines) == ["missing"]
    assert found([*ours.lines[:-1], *theirs.lines]) == ["begun_anew", "missing"]


def test_a_copy_of_a_data_directory_has_what_its_own_database_must_have(tmp_path: Path) -> None:
    """The positions name the place that it was copied from: for an auditor who works on a copy they count as well."""
    there, copy = tmp_path / "there", tmp_path / "copy"
    there.mkdir()
    ship(there, str(there / "requests.db"), exchanges=3)
    shutil.copytree(there, copy)

    known = delivered(copy, NAME, target=str(copy / "requests.db"))

    assert known is not None
    assert known.last == 3
    assert delivered(copy, NAME, target=str(copy / "other.db")) is None
    assert delivered(copy, NAME, target=str(tmp_path / "requests.db")) is None
