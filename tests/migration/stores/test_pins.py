import errno
import json
import os
import stat
from pathlib import Path

import pytest

from proxy.migration.pin import Reason, RetryPin
from proxy.migration.pin_rows import Pins, pin_row, pins_of
from proxy.migration.pin_table import SHARDS
from proxy.migration.side import Side
from proxy.migration.stores.pins import PinFile

NOW = 1_800_000_000.0
DAY = 86400.0


def pins(*numbers: int, until: float = NOW + DAY, answered: bool = False) -> Pins:
    """Return a pin for each of *numbers*."""
    return {
        f"{number:016x}": RetryPin(
            Side.MODERN, "bank", until, "payments", Reason.ANSWERED if answered else Reason.UNKNOWN
        )
        for number in numbers
    }


def opened(directory: Path, *, most: int = 1000, now: float = NOW) -> PinFile:
    """Return the file of *directory*, read."""
    file = PinFile(directory, most=most)
    file.load(now=now)
    return file


def held(directory: Path, *, now: float = NOW) -> Pins:
    """Return what another process finds in *directory*."""
    file = PinFile(directory)
    file.load(now=now)
    file.close()
    assert not file.problem
    return table_of(file)


def table_of(file: PinFile) -> Pins:
    """Return all pins of *file*."""
    return {digest: pin for shard in range(SHARDS) for digest, pin in file.table.shard(shard)}


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    """On disk before `keep` returns, for the owner only."""
    file = opened(tmp_path)

    assert file.keep(pins(1, 2), now=NOW)[0]
    assert file.keep(pins(3), now=NOW)[0]

    assert held(tmp_path) == pins(1, 2, 3)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.close()


def test_every_keep_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin that a power cut could take away is none."""
    file = opened(tmp_path)
    file.keep(pins(1), now=NOW)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    file.keep(pins(2), now=NOW)

    assert len(synced) == 1
    file.close()


def test_an_instance_without_pins_has_no_file(tmp_path: Path) -> None:
    """Nothing is written for those who migrate nothing."""
    file = opened(tmp_path)
    file.look_after(now=NOW)

    assert not file.problem
    assert not list(tmp_path.iterdir())


def test_expired_pins_go_at_start_and_while_running(tmp_path: Path) -> None:
    """The file is written anew when it is read, and when most of its lines are in vain."""
    file = opened(tmp_path)
    file.keep(pins(1, until=NOW + 10), now=NOW)
    file.keep(pins(2), now=NOW)
    for number in range(1500):
        file.keep(pins(9, until=NOW + DAY + number), now=NOW)
    file.close()
    assert len(file.path.read_bytes().splitlines()) < 1200

    assert held(tmp_path, now=NOW + 20).keys() == pins(2, 9).keys()
    assert len(file.path.read_bytes().splitlines()) == 3


def test_looking_after_forgets_what_has_expired(tmp_path: Path) -> None:
    """What no retry can come for any more takes no memory."""
    file = opened(tmp_path)
    file.keep(pins(1, until=NOW + 10) | pins(2), now=NOW)

    file.look_after(now=NOW + 20)
    assert table_of(file) == pins(2)
    file.close()


def test_a_torn_last_line_was_promised_to_nobody(tmp_path: Path) -> None:
    """A machine that stops in the middle of a write leaves the rest readable."""
    file = opened(tmp_path)
    file.keep(pins(1), now=NOW)
    file.keep(pins(2), now=NOW)
    file.close()
    whole = file.path.read_bytes()

    for cut in range(len(whole) - 1, whole.rindex(b"\n", 0, -1), -1):
        file.path.write_bytes(whole[:cut])
        assert held(tmp_path) == pins(1)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"{}\n",
        b"[]\n",
        b'["00","modern","bank",1900000000]\n',
        b'["00000000000000000000000000000001","other","bank",1900000000]\n',
        b'["00000000000000000000000000000001","modern","",1900000000]\n',
        b'["00000000000000000000000000000001","modern","bank",NaN]\n',
        b'["0000000000000000000000000000000G","modern","bank",1900000000]\n',
    ],
    ids=repr,
)
def test_a_line_that_is_no_pin_makes_pins_unreadable(tmp_path: Path, line: bytes) -> None:
    """One that can't be read may be the one that matters; the file stays as it is, and new pins are not kept."""
    path = tmp_path / "retry-pins.jsonl"
    path.write_bytes(b'{"format":1}\n' + line + b"\n")

    file = opened(tmp_path)

    assert f"{path} can't be used: line 2" in file.problem
    assert not file.keep(pins(2), now=NOW)[0]
    assert path.read_bytes() == b'{"format":1}\n' + line + b"\n"


def test_a_newer_format_makes_pins_unreadable(tmp_path: Path) -> None:
    """A later payproxy may mean something else by it."""
    path = tmp_path / "retry-pins.jsonl"
    path.write_bytes(b'{"format":3}\n')

    assert "which knows format 2" in opened(tmp_path).problem


def test_a_file_that_was_moved_away_is_a_new_beginning(tmp_path: Path) -> None:
    """The operator's way out; what came meanwhile is written down then."""
    path = tmp_path / "retry-pins.jsonl"
    path.write_bytes(b"nonsense\n")
    file = opened(tmp_path)
    file.keep(pins(1), now=NOW)
    path.unlink()

    file.look_after(now=NOW)
    assert not file.problem
    assert held(tmp_path) == table_of(file) == pins(1)
    file.close()


def test_a_disk_that_fails_is_said_and_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be synced is not kept, stays in memory, and is written to a new file once that works."""
    file = opened(tmp_path)
    file.keep(pins(1), now=NOW)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", _broken)
        patched.setattr(os, "fsync", _broken)
        assert not file.keep(pins(2), now=NOW)[0]
        assert "can't be written: broken" in file.problem
        assert not file.keep(pins(3), now=NOW)[0]
        file.look_after(now=NOW)
        assert file.problem

    file.look_after(now=NOW)
    assert not file.problem
    assert held(tmp_path) == table_of(file) == pins(1, 2, 3)
    file.close()


def test_one_too_many_is_not_forgotten_silently(tmp_path: Path) -> None:
    """Until a pin that had to go would have ended pins count as unreadable, also after a restart; the others hold."""
    file = opened(tmp_path, most=2)
    file.keep(pins(1, until=NOW + 60) | pins(2, until=NOW + 6000), now=NOW)
    assert not file.problem

    file.keep(pins(3, until=NOW + 7000), now=NOW)

    assert "more than 2" in file.problem
    assert table_of(file).keys() == pins(2, 3).keys()
    file.close()
    again = opened(tmp_path, most=2, now=NOW + 55)
    assert "more than 2" in again.problem
    again.look_after(now=NOW + 200)
    assert not again.problem
    assert again.keep(pins(4), now=NOW + 6001)[0]
    again.close()
    assert not opened(tmp_path, now=NOW + 6001).problem


def test_at_the_bound_the_oldest_answered_one_goes_first(tmp_path: Path) -> None:
    """A 5xx says at least that the bank answered: no retry is refused because its pin had to go."""
    file = opened(tmp_path, most=2)
    file.keep(pins(1, until=NOW + 60) | pins(2, until=NOW + 6000, answered=True), now=NOW)

    assert file.keep(pins(3, until=NOW + 7000), now=NOW)[0]

    assert not file.problem
    assert table_of(file).keys() == pins(1, 3).keys()
    file.close()


@pytest.mark.parametrize("content", [b"", b"x" * 500, b'{"format":2}'], ids=["empty", "garbage", "cut"])
def test_a_file_without_a_whole_first_line_is_not_an_empty_one(tmp_path: Path, content: bytes) -> None:
    """Its first line is there from the beginning: whatever this is, it held pins."""
    path = tmp_path / "retry-pins.jsonl"
    path.write_bytes(content)

    file = opened(tmp_path)

    assert f"{path} can't be used: line 1" in file.problem
    assert not file.keep(pins(1), now=NOW)[0]
    assert path.read_bytes() == content


@pytest.mark.parametrize("way", ["moved", "removed", "replaced"])
def test_a_file_that_goes_away_while_it_is_written_is_written_anew(tmp_path: Path, way: str) -> None:
    """What is appended to a file that the next start does not read is not kept."""
    file = opened(tmp_path)
    file.keep(pins(1), now=NOW)
    if way == "removed":
        file.path.unlink()
    else:
        file.path.rename(tmp_path / "elsewhere")
    if way == "replaced":
        file.path.write_bytes(b"another")

    assert file.keep(pins(2), now=NOW)[0]

    assert held(tmp_path) == pins(1, 2)
    file.path.unlink()
    file.look_after(now=NOW)
    assert held(tmp_path) == pins(1, 2)
    file.close()


def test_what_an_earlier_payproxy_wrote_is_read(tmp_path: Path) -> None:
    """Its digests are longer, and it says neither migration nor how the try ended."""
    path = tmp_path / "retry-pins.jsonl"
    path.write_bytes(b'{"format":1}\n["0123456789abcdef0123456789abcdef","modern","bank",1800000100.5]\n')

    assert held(tmp_path) == {"0123456789abcdef": RetryPin(Side.MODERN, "bank", 1800000101.0)}


def test_of_two_tries_the_one_without_an_answer_counts(tmp_path: Path) -> None:
    """That one may have been made."""
    file = opened(tmp_path)
    file.keep(pins(1), now=NOW)
    file.keep(pins(1, until=NOW + DAY + 5, answered=True), now=NOW)
    assert held(tmp_path) == table_of(file) == pins(1)
    file.keep(pins(2, answered=True), now=NOW)
    file.keep(pins(2), now=NOW)
    assert held(tmp_path) == table_of(file) == pins(1, 2)
    file.close()


def test_what_expired_makes_room(tmp_path: Path) -> None:
    """Only pins that still hold count."""
    file = opened(tmp_path, most=2)
    file.keep(pins(1, 2, until=NOW + 50), now=NOW)

    assert file.keep(pins(3), now=NOW + 51)[0]
    assert not file.problem
    file.close()


def test_pins_travel_as_json() -> None:
    """What goes over the link, to disk and to other replicas is one form."""
    rows = json.loads(json.dumps([pin_row(digest, pin) for digest, pin in pins(1, 2).items()]))

    assert pins_of(rows) == pins(1, 2)


def _broken(descriptor: int) -> None:
    del descriptor
    raise OSError(errno.EIO, "broken")
