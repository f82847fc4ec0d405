"""A configuration with a migration, and a log of what its callers sent."""

import asyncio
from pathlib import Path

from proxy.clock import Clock, SystemClock
from proxy.entropy import SystemEntropy
from proxy.records.audit_records import AuditRecords, Operation
from proxy.records.sinks.sqlite import SqliteSink
from tests.keeper.guarded import config
from tests.records.kept import MASK, kept, record
from tests.records.support import CONTEXT

DAY = 86400.0


def sent(caller: str, side: str, number: int, *, days: float, status: int = 200) -> list[bytes]:
    """Return *number* records of what *caller* sent so many *days* ago."""
    at = SystemClock().now() - days * DAY
    credential = "adfs" if side != "modern" else "login"
    return [record(at, caller=caller, side=side, credential=credential, status=status) for _ in range(number)]


def changed(
    weight: int, *, before: int, reason: str, who: str = "anna", what: str = "set", clock: Clock | None = None
) -> bytes:
    """Return the record of a change, as the keeper makes it at the time of *clock*."""
    records = AuditRecords(CONTEXT, mask=MASK, clock=clock or SystemClock(), entropy=SystemEntropy())
    values = (("migration", "payments"), ("old_weight", str(before)), ("weight", str(weight)))
    operation = Operation(who=who, proof="unix socket", what=f"migration {what}", reason=reason, values=values)
    return records.operation(operation)[:-1]


def migrated(folder: Path, *lines: bytes, migration: str = "", log: str = "") -> None:
    """Write the configuration with more lines in its sections to *folder*, and *lines* into its database."""
    (folder / "payproxy.toml").write_text(config(migration=migration, log=log))
    (folder / "secret").write_text("s")
    (folder / "secret").chmod(0o600)
    (folder / "payproxy-data").mkdir(mode=0o700)
    asyncio.run(_fill(folder / "payproxy-data" / "requests.db", kept(lines)))


async def _fill(database: Path, lines: list[bytes]) -> None:
    sink = SqliteSink(database)
    await sink.write(lines)
    await sink.close()
