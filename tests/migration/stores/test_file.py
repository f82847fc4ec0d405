import errno
import os
import stat
from pathlib import Path

import pytest

from proxy.migration.state import Document, MigrationState, StateUnusable
from proxy.migration.stores.file import FileStore

DOCUMENT = Document(states={"payments": MigrationState(weight=50, version=3, who="op", reason="week two")})


def test_it_is_there_again_and_for_its_owner_only(tmp_path: Path) -> None:
    """Nothing else is left in the directory."""
    FileStore(tmp_path).save(DOCUMENT)

    assert FileStore(tmp_path).load() == DOCUMENT
    assert [path.name for path in tmp_path.iterdir()] == ["migrations.json"]
    assert stat.S_IMODE((tmp_path / "migrations.json").stat().st_mode) == 0o600


def test_no_file_is_no_migration(tmp_path: Path) -> None:
    """A new instance has changed nothing yet."""
    assert FileStore(tmp_path).load() == Document()


@pytest.mark.parametrize("data", [b"", b'{"format":1,"migr', b'{"format":2,"migrations":{}}'], ids=repr)
def test_a_file_that_can_not_be_used_is_named(tmp_path: Path, data: bytes) -> None:
    """Torn, or of a later payproxy."""
    path = tmp_path / "migrations.json"
    path.write_bytes(data)

    with pytest.raises(StateUnusable, match=str(path)):
        FileStore(tmp_path).load()


def test_a_file_that_is_a_directory_is_named(tmp_path: Path) -> None:
    """What can't be read at all counts alike."""
    (tmp_path / "migrations.json").mkdir()

    with pytest.raises(StateUnusable, match="can't be read"):
        FileStore(tmp_path).load()


def test_a_full_disk_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that fails fails whole, and the next one works."""
    store = FileStore(tmp_path)
    store.save(DOCUMENT)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _full)
        with pytest.raises(OSError, match="full"):
            store.save(Document())

    assert store.load() == DOCUMENT
    assert [path.name for path in tmp_path.iterdir()] == ["migrations.json"]
    store.save(Document())
    assert store.load() == Document()


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    """A file that was being written when the power went is written over."""
    (tmp_path / ".migrations.json.new").write_text("half")

    FileStore(tmp_path).save(DOCUMENT)

    assert FileStore(tmp_path).load() == DOCUMENT


def _full(descriptor: int) -> None:
    del descriptor
    raise OSError(errno.ENOSPC, "full")
