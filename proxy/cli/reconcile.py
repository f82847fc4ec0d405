"""`payproxy reconcile`: ask the bank about all requests whose outcome is unknown."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.inquiries import ask_bank, inquiries_since
from proxy.cli.instance import Denied, NotRunning
from proxy.cli.log_database import configured_database, database_option, opened
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, emit, json_option, printable
from proxy.cli.progress import progress
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
        latest = self.inquiries[-1] if asked else {}
        return {
            **{name: self.record.get(name, "") for name in _MEMBERS},
            "verdict": latest.get("verdict", ""),
            "cause": latest.get("cause", ""),
            "settled": self.settled,
            "not_asked": self.refusal,
            "next_step": next_step(self.record, self.inquiries),
        }

    def lines(self) -> str:
        values = self.values()
        head = f"{local_text(values['time'])}  {values['id']}  {values['method']} {values['path']}"
        cause = f" ({values['cause']})" if values["cause"] else ""
        what = f"not asked: {self.refusal}" if self.refusal else f"{values['verdict']}{cause}"
        return printable(f"{head}\n  {what}. What to do: {values['next_step']}")


@dataclass(slots=True, kw_only=True)
class _Reconciled:
    """What came of the *number* of requests that were open: *answered*, the oldest first, fewer if it was ended."""

    number: int
    answered: list[_Answered]

    @property
    def open(self) -> int:
        return self.number - sum(bool(one.settled) for one in self.answered)

    def values(self) -> dict[str, Any]:
        return {
            "asked": sum(not one.refusal for one in self.answered),
            "not_asked": sum(bool(one.refusal) for one in self.answered),
            "not_reached": self.number - len(self.answered),
            "open": self.open,
            "exchanges": [one.values() for one in self.answered],
        }

    def text(self) -> str:
        if not self.number:
            return "No request is open."
        values = self.values()
        counts = [f"{values['asked']} asked about"]
        counts += [f"{values[name]} {name.replace('_', ' ')}" for name in ("not_asked", "not_reached") if values[name]]
        counts += [f"{self.number - self.open} settled", f"{self.open} still open"]
        return "\n".join([*(one.lines() for one in self.answered), f"{', '.join(counts)}."])


@click.command()
@click.option("--since", default="1d", show_default=True, metavar="TIME", help="2h, 7d, or an ISO time.")
@database_option
@config_option
@json_option
def reconcile(config_path: Path | None, database_file: Path | None, *, since: str, as_json: bool) -> None:
    """Have the running instance ask the bank about each request of unknown outcome that no inquiry has settled.

    By the inquiry of each request's rule, the oldest first, 20 in a row and then one each 2 s. It changes nothing at
    the bank, and what the bank says is recorded. Ends with 1 if one is still open. Ctrl-C ends it at once: it prints
    what was done, and the instance ends the inquiry that is running.
    """
    settings, clock = load_configuration(config_path).settings, SystemClock()
    try:
        begin = parse_time(since, now=clock.now(), zone=None)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    done = _Reconciled(number=0, answered=[])
    try:
        with progress("asking the bank") as shown:
            still = asyncio.run(_open_requests(settings, database_file, begin))
            done.number = len(still)
            for record, before in shown.counted(still):
                done.answered.append(_asked(settings, record, before, clock))
    except (KeyboardInterrupt, NotRunning):
        if done.number:
            emit(done.values(), as_json=as_json, human=done.text())
        raise
    emit(done.values(), as_json=as_json, human=done.text())
    if done.open:
        raise click.exceptions.Exit(ExitCode.FAILED)


async def _open_requests(
    settings: Settings, database_file: Path | None, since: float
) -> list[tuple[Record, list[Record]]]:
    """Return the requests that no inquiry has settled, the oldest first, each with its inquiries."""
    async with opened(configured_database(settings, database_file)) as archive:
        lines = all_lines(archive, Query(kind="exchange", sent="unknown", since=since))
        unknown = [one async for line in lines if may_have_changed(one := object_in(line))]
        before = await inquiries_since(settings, archive, since)
    found = [(one, before.get(one["id"], [])) for one in reversed(unknown)]
    return [(one, inquiries) for one, inquiries in found if decisive(one, inquiries) is None]


def _asked(settings: Settings, record: Record, before: list[Record], clock: Clock) -> _Answered:
    """Ask about *record*, waiting while the instance says that there are too many; raises NotRunning.

    Not in a thread: Ctrl-C would end that only with the inquiry.
    """
    while True:
        try:
            inquiry = ask_bank(settings, record)
        except Denied as why:
            if why.status != _TOO_MANY:
                return _Answered(record=record, inquiries=before, refusal=str(why))
            asyncio.run(clock.sleep(_WAIT_SECONDS))
        else:
            return _Answered(record=record, inquiries=[*before, inquiry], refusal="")
