"""`payproxy reconcile`: ask the bank about all requests whose outcome is unknown."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.inquiries import ask_bank, inquiries_since
from proxy.cli.instance import Denied
from proxy.cli.log_database import configured_database, database_option, opened
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, emit, json_option, printable
from proxy.cli.progress import Progress, progress
from proxy.clock import Clock, SystemClock
from proxy.console.why_text import next_step
from proxy.records.anchor import object_in
from proxy.records.inquiry_outcome import Record, decisive, may_have_changed
from proxy.records.paging import all_lines
from proxy.records.query import Query, parse_time
from proxy.settings.model import Settings
from proxy.times import local_text

# The instance asks 20 in a row and then one each 2 s.
_WAIT_SECONDS = 2.0
_TOO_MANY = 429
_MEMBERS = ("id", "time", "caller", "method", "path", "route", "side")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """What is known now about *record*; *refusal* says why the bank was not asked, "" if it was."""

    record: Record
    inquiries: list[Record]
    refusal: str

    @property
    def settled(self) -> str:
        decided = decisive(self.record, self.inquiries)
        return str(decided["verdict"]) if decided is not None else ""

    def values(self) -> dict[str, Any]:
        asked = bool(self.inquiries) and not self.refusal
        return {
            **{name: self.record.get(name, "") for name in _MEMBERS},
            "verdict": self.inquiries[-1]["verdict"] if asked else "",
            "settled": self.settled,
            "not_asked": self.refusal,
            "next_step": next_step(self.record, self.inquiries),
        }

    def lines(self) -> str:
        values = self.values()
        head = f"{local_text(values['time'])}  {values['id']}  {values['method']} {values['path']}"
        said = f"not asked: {self.refusal}" if self.refusal else str(values["verdict"])
        return printable(f"{head}\n  {said}. What to do: {values['next_step']}")


@click.command()
@click.option("--since", default="1d", show_default=True, metavar="TIME", help="2h, 7d, or an ISO time.")
@database_option
@config_option
@json_option
def reconcile(config_path: Path | None, database_file: Path | None, *, since: str, as_json: bool) -> None:
    """Have the running instance ask the bank about each request of unknown outcome that no inquiry has settled.

    By the inquiry of each request's rule, the oldest first, 20 in a row and then one each 2 s. It changes nothing at
    the bank, and what the bank says is recorded. Ends with 1 if one is still open.
    """
    settings, clock = load_configuration(config_path).settings, SystemClock()
    try:
        begin = parse_time(since, now=clock.now(), zone=None)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    with progress("asking the bank") as shown:
        answered = asyncio.run(_reconciled(settings, database_file, begin, clock, shown))
    left = [one for one in answered if not one.settled]
    total = f"{len(answered)} asked about, {len(answered) - len(left)} settled, {len(left)} still open."
    values = {"asked": len(answered), "open": len(left), "exchanges": [one.values() for one in answered]}
    human = "\n".join([*(one.lines() for one in answered), total]) if answered else "No request is open."
    emit(values, as_json=as_json, human=human)
    if left:
        raise click.exceptions.Exit(ExitCode.FAILED)


async def _reconciled(
    settings: Settings, database_file: Path | None, since: float, clock: Clock, shown: Progress
) -> list[_Answered]:
    async with opened(configured_database(settings, database_file)) as archive:
        lines = all_lines(archive, Query(kind="exchange", sent="unknown", since=since))
        unknown = [one async for line in lines if may_have_changed(one := object_in(line))]
        before = await inquiries_since(settings, archive, since)
    still = [one for one in reversed(unknown) if decisive(one, before.get(one["id"], [])) is None]
    return [await _asked(settings, one, before.get(one["id"], []), clock) for one in shown.counted(still)]


async def _asked(settings: Settings, record: Record, before: list[Record], clock: Clock) -> _Answered:
    """Ask about *record*, waiting while the instance says that there are too many; raises NotRunning."""
    while True:
        try:
            inquiry = await asyncio.to_thread(ask_bank, settings, record)
        except Denied as why:
            if why.status != _TOO_MANY:
                return _Answered(record=record, inquiries=before, refusal=str(why))
            await clock.sleep(_WAIT_SECONDS)
        else:
            return _Answered(record=record, inquiries=[*before, inquiry], refusal="")
