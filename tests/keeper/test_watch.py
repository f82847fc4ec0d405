import os
from pathlib import Path

import pytest

from proxy.keeper.watch import FileWatch


@pytest.fixture
def watch(tmp_path: Path) -> FileWatch:
    """A watch over two files, one group each, and one that is not there."""
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("one")
    return FileWatch({"a": [str(tmp_path / "a"), ""], "b": [str(tmp_path / "b"), str(tmp_path / "later")]})


def looks(watch: FileWatch, times: int = 3) -> list[list[str]]:
    """Return what each of some looks finds."""
    return [watch.look() for _ in range(times)]


def test_nothing_changes(watch: FileWatch, tmp_path: Path) -> None:
    """What is rewritten with the same content is no change."""
    assert looks(watch) == [[], [], []]
    (tmp_path / "a").write_text("one")
    assert looks(watch) == [[], [], []]


def test_a_change_is_told_once_it_rests(watch: FileWatch, tmp_path: Path) -> None:
    """The first look sees it coming, the second tells it, the third is quiet again."""
    (tmp_path / "a").write_text("two")
    assert looks(watch) == [[], ["a"], []]


def test_what_is_still_being_written_is_waited_for(watch: FileWatch, tmp_path: Path) -> None:
    """Each new content starts the wait anew; going back to the old ends it."""
    for text in ["t", "tw", "two"]:
        (tmp_path / "a").write_text(text)
        assert watch.look() == []
    assert watch.look() == ["a"]
    (tmp_path / "a").write_text("thr")
    assert watch.look() == []
    (tmp_path / "a").write_text("two")
    assert looks(watch) == [[], [], []]


def test_files_that_come_and_go(watch: FileWatch, tmp_path: Path) -> None:
    """A file that appears or vanishes is a change of its group."""
    (tmp_path / "later").write_text("here")
    assert looks(watch) == [[], ["b"], []]
    (tmp_path / "later").unlink()
    assert looks(watch) == [[], ["b"], []]


def test_who_may_read_it_counts(watch: FileWatch, tmp_path: Path) -> None:
    """A mode that is mended makes a file usable, so it is a change."""
    (tmp_path / "a").chmod(0o600)
    assert looks(watch) == [[], ["a"], []]


def test_swapped_links(tmp_path: Path) -> None:
    """Kubernetes swaps one link to a folder: the same path then leads to another file of the same size and time."""
    for name, text in (("v1", "one"), ("v2", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(text)
        os.utime(tmp_path / name / "key", ns=(0, 0))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "key").symlink_to("data/key")
    watch = FileWatch({"a": [str(tmp_path / "key")]})
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").rename(tmp_path / "data")
    assert looks(watch) == [[], ["a"], []]


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """What is no file is not opened, and is a change like any other."""
    (tmp_path / "a").write_text("one")
    watch = FileWatch({"a": [str(tmp_path / "a")]})
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    assert looks(watch) == [[], ["a"], []]
    assert "1 files in 1 groups" in repr(watch)
