"""Callers that a configuration pins to modern have no request from before that may be sent again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import Sent
from proxy.keeper.new_pins import before_tables, in_new_tables
from proxy.records.archives.sqlite import SqliteArchive
from proxy.records.query import Archive, ArchiveUnusable, Page
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.unpinned import unpinned
from proxy.settings.stores import UrlUnusable
from proxy.settings.worker_values import MigrationValues
from tests.keeper.migrating import PAYMENTS, Migrating, configured
from tests.records.kept import kept, record

NOW = 1_800_000_000.0
PINNED = replace(PAYMENTS, pinned_modern=("erp",))
UNKNOWN: dict[str, Any] = {"status": 502, "sent": Sent.UNKNOWN, "origin": "proxy", "code": "upstream_reset"}


@pytest.mark.parametrize(
    ("tables", "known", "objects"),
    [
        ([PINNED], [], True),
        ([PINNED], [PAYMENTS], False),
        ([PAYMENTS], [], False),
        ([replace(PAYMENTS, pinned_legacy=("erp",))], [], False),
        ([PINNED], [replace(PAYMENTS, name="others")], True),
    ],
)
def test_a_reload_with_a_new_table_pins_nobody_to_modern(
    tables: Sequence[MigrationValues], known: Sequence[MigrationValues], *, objects: bool
) -> None:
    """What its rules have in flight has no key that anybody knows; pins to legacy move nobody."""
    assert bool(in_new_tables(tables, known={one.name: one for one in known})) is objects


async def test_a_start_is_no_reload(tmp_path: Path) -> None:
    """Then nothing is in flight, and the log tells the rest."""
    it = Migrating(directory=tmp_path)
    migrations = await it.open(())
    assert "pin.modern would move erp" in migrations.objection(configured(PINNED))
    await migrations.close()

    again = Migrating(directory=tmp_path).migrations
    await again.open()
    assert not again.objection(configured(PINNED))
    await again.close()


@pytest.mark.parametrize(
    ("other", "known"),
    [
        ({"caller": "crm"}, []),
        ({"side": "legacy"}, []),
        ({"status": 201, "sent": Sent.YES, "code": "", "origin": "bank"}, []),
        ({"method": "GET"}, []),
        ({"route": "other"}, []),
        ({}, [PINNED]),
    ],
    ids=["another caller", "has a pin", "certain", "safe", "another rule", "pinned before"],
)
def test_what_moves_no_retry_is_none(tmp_path: Path, other: dict[str, Any], known: list[MigrationValues]) -> None:
    """Nor is what was more than a day ago."""
    uncertain = {**UNKNOWN, "caller": "erp", "side": ""}

    assert not by_log(tmp_path, known, record(NOW - 60, **uncertain | other), record(NOW - 86_460, **uncertain))


@pytest.mark.parametrize("known", [[], [PAYMENTS]], ids=["a new table", "a new pin"])
def test_an_uncertain_request_is_one(tmp_path: Path, known: list[MigrationValues]) -> None:
    """Until a day after it."""
    told = by_log(tmp_path, known, record(NOW - 3600, caller="erp", side="", **UNKNOWN))

    assert told.startswith("migrations.payments: pin.modern would move erp, of whom 1 request whose outcome")
    assert "second payment until 2027-01-16T07:00:00Z" in told


@pytest.mark.parametrize("error", [ArchiveUnusable("locked"), UrlUnusable("no file"), None])
def test_a_log_that_cant_be_read_is_no_objection(error: Exception | None) -> None:
    """It is said, unless it was turned off: an outage of the database must not prevent a start."""
    said: list[str] = []

    def archive() -> Archive | None:
        if error is not None:
            raise error
        return None

    found = before_tables([PINNED], known={}, archive=archive, now=NOW, write_line=said.append)

    assert not asyncio.run(found)
    assert len(said) == (error is not None)


async def test_what_others_sent_is_not_read(tmp_path: Path) -> None:
    """They may have sent millions of requests in that day."""
    sink = SqliteSink(tmp_path / "requests.db")
    of_others = [record(NOW - 60, caller="crm", side="", **UNKNOWN) for _ in range(20)]
    await sink.write(kept([*of_others, record(NOW - 60, caller="erp", side="", **UNKNOWN)]))
    await sink.close()
    read: list[bytes] = []

    class Watched(SqliteArchive):
        async def page(self, *args: Any, **others: Any) -> Page:
            page = await super().page(*args, **others)
            read.extend(page.records)
            return page

    archive = Watched(tmp_path / "requests.db")
    ends, _ = await unpinned(archive, PINNED.routes, since=NOW - 86_400, callers={"erp", "treasury"})
    await archive.close()

    assert (len(ends), len(read)) == (1, 1)


def by_log(folder: Path, known: Sequence[MigrationValues], *records: bytes) -> str:
    """Return what *records* say against pinning erp to modern."""

    async def read() -> str:
        sink = SqliteSink(folder / "requests.db")
        await sink.write(kept(records))
        await sink.close()
        return await before_tables(
            [PINNED],
            known={one.name: one for one in known},
            archive=lambda: SqliteArchive(folder / "requests.db"),
            now=NOW,
            write_line=pytest.fail,
        )

    return asyncio.run(read())
