"""`payproxy logs prune`: delete whole months, and write a record of what was deleted."""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from proxy.cli.audit_record import current_user, write_audit_record
from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import configured_database, database_option, opened
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, Failure, emit, json_option, note
from proxy.cli.progress import progress
from proxy.clock import Clock, SystemClock
from proxy.entropy import Entropy, SystemEntropy
from proxy.records.anchor import object_in
from proxy.records.audit_records import Operation
from proxy.records.checkpoint_key import CheckpointKey, checkpoint_key
from proxy.records.months import Month, month_at, parse_month
from proxy.records.pruned_range import PrunedRange, joined, ranges_in, signed_bytes, signer_of
from proxy.records.query import parse_time
from proxy.settings.model import Settings
from proxy.settings.stores import Database


@click.command()
@click.option(
    "--before",
    required=True,
    metavar="TIME",
    help="Months (in UTC) that ended by then: 2026-01, 2026-01-31, or 365d for so long ago.",
)
@click.option("--reason", default="", help="Why; it is shown in the record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database_option
@config_option
@json_option
def prune(
    config_path: Path | None,
    database_file: Path | None,
    before: str,
    reason: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete all records of the months that ended before TIME from the database, after asking.

    A record of the kind "operation" says who deleted what, up to which record and hash; `logs verify` relies on it.
    """
    configuration = load_configuration(config_path)
    if configuration.guessed:
        raise Failure("nothing is deleted by a configuration with errors: correct it", code=ExitCode.CONFIGURATION)
    settings = configuration.settings
    end = _month(before, clock=SystemClock())
    database = configured_database(settings, database_file)
    pruned = asyncio.run(_prune(database, settings, end, reason=reason, yes=yes, entropy=SystemEntropy()))
    emit(
        [{"month": str(month), "records": records} for month, records in pruned.items()],
        as_json=as_json,
        human="\n".join(f"{month}  {records} records deleted" for month, records in pruned.items())
        or f"there is no month that ended before {before}",
    )


async def _prune(
    database: Database,
    settings: Settings,
    end: Month,
    *,
    reason: str,
    yes: bool,
    entropy: Entropy,
) -> dict[Month, int]:
    """Delete the months before *end* and return the number of records of each."""
    async with opened(database) as archive:
        months = [month for month in await archive.months() if month < end]
        if not months:
            return {}
        if not yes:
            _ask({month: (await archive.ranges(month))[0] for month in months})
        key = _key(Path(settings.data_directory), entropy=entropy)
        pruned: dict[Month, int] = {}
        ranges: list[PrunedRange] = []
        # Only now: records may have come while the user was asked.
        with progress("looking through the months") as shown:
            for month in months:
                shown.what = f"looking through {month}"
                pruned[month], found = await archive.ranges(month)
                ranges += found
                ranges += _signed_before(await archive.prune_records(month), key)
        all_ranges = tuple(joined(ranges))
        operation = Operation(
            who=current_user(),
            proof="operating-system user",
            what="logs prune",
            reason=reason,
            values=tuple((str(month), f"{records} records") for month, records in pruned.items()),
            pruned=all_ranges,
            # Without a signature they don't count.
            pruned_by=(key.public, key.sign_bytes(signed_bytes(all_ranges))),
        )
        # Write the record first: then nothing is ever missing without one.
        try:
            write_audit_record(settings, lambda records: records.operation(operation))
        except OSError as error:
            directory = settings.data_directory
            raise Failure(f"it can't be recorded, so nothing was deleted: {directory}: {error.strerror}") from None
        with progress("deleting") as shown:
            for month, records in pruned.items():
                shown.what = f"deleting {month}"
                await archive.forget(month, records=records)
        return pruned


def _signed_before(records: Iterable[bytes], key: CheckpointKey) -> Iterator[PrunedRange]:
    """Yield the earlier prunes in *records*, which are deleted now, if this data directory's *key* has signed them."""
    for record in map(object_in, records):
        ranges = tuple(ranges_in(record))
        if signer_of(record, ranges) == key.public:
            yield from ranges


def _key(directory: Path, *, entropy: Entropy) -> CheckpointKey:
    try:
        return checkpoint_key(directory, entropy=entropy)
    except OSError as error:
        raise Failure(f"it can't be signed, so nothing was deleted: {directory}: {error.strerror}") from None


def _ask(pruned: Mapping[Month, int]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("no terminal to ask the question on: give --yes")
    note(f"{sum(pruned.values())} records of {', '.join(map(str, pruned))} are deleted for good.")
    click.confirm("Delete them?", abort=True, err=True)


def _month(text: str, *, clock: Clock) -> Month:
    """Return the first month to keep."""
    month = parse_month(text)
    if month is None:
        try:
            month = month_at(parse_time(text, now=clock.now()))
        except ValueError:
            raise click.BadParameter("write it like 2026-01, 2026-01-31 or 365d", param_hint="--before") from None
    return min(month, month_at(clock.now()))
