"""The page of a request of unknown outcome: what the bank was asked about it, and the button that asks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from proxy.console.answers import Refused
from proxy.console.log_reader import LogReader
from proxy.console.outcomes import inquiries_about
from proxy.console.page import Cell, PageContent, Table, Tone
from proxy.console.request_pages import PATH, request_page
from proxy.console.sessions import Visitor
from proxy.console.why_text import is_unresolved, next_step, said
from proxy.records.inquiry_outcome import decisive
from proxy.records.record_words import cell
from proxy.times import local_text

Record = dict[str, Any]

ASK = f"{PATH}/ask"
# The listener gives up at ANSWER_SECONDS, 10, without an answer; the bank may take longer, and is asked to the end.
_PATIENCE_SECONDS = 8.0
_TONES = {"found": Tone.GOOD, "not_found": Tone.WARN, "unclear": Tone.WARN}


class BankInquiries(Protocol):
    """Asks the bank about an exchange, by the inquiry of its rule, as `payproxy why --ask` does."""

    def objection(self, record: Mapping[str, Any]) -> str:
        """Return why the bank can't be asked about the exchange *record*, "" if it can."""

    async def ask(self, record: Mapping[str, Any], *, by: Visitor) -> Record:
        """Ask, on record before, and return the record of what came; raise Refused or LogUnavailable."""


class AskBank:
    """What the request page shows of inquiries, and what its button does."""

    def __init__(self, inquiries: BankInquiries, log: LogReader) -> None:
        self._inquiries = inquiries
        self._log = log
        self._asking: dict[str, asyncio.Task[Record]] = {}

    async def page(self, record: Record) -> PageContent:
        """Return the page of *record*, with what the bank was asked if its outcome is unknown."""
        if not _is_unknown(record):
            return request_page(record)
        found = await self._about(record)
        return with_inquiries(request_page(record, found), record, found, self._inquiries.objection(record))

    async def ask(self, record: Record, visitor: Visitor) -> str:
        """Ask the bank about *record* for *visitor*, and return in words what came; raise Refused or LogUnavailable."""
        if not _is_unknown(record):
            raise Refused(409, "There is nothing to ask: the outcome of this request is known, or it changes nothing.")
        record_id = str(record.get("id"))
        if record_id in self._asking:
            raise Refused(
                409, "The bank is being asked about this request. What it says will be on the request's page."
            )
        task = self._asking[record_id] = asyncio.create_task(self._ask(record, visitor))
        task.add_done_callback(lambda _: self._ended(record_id))
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE_SECONDS)
        if not done:
            return "The bank has not answered yet. What it says will be on the request's page."
        came = task.result()
        found = [one for one in await self._about(record) if one.get("id") != came.get("id")]
        return f"{said(came)} What to do: {next_step(record, [*found, came])}"

    def _ended(self, record_id: str) -> None:
        task = self._asking.pop(record_id)
        if not task.cancelled():
            task.exception()  # taken here: who asked may have left

    async def _ask(self, record: Record, visitor: Visitor) -> Record:
        if settled := decisive(record, await self._about(record)):
            raise Refused(409, f"There is nothing to ask any more. {said(settled)}")
        return await self._inquiries.ask(record, by=visitor)

    async def _about(self, record: Record) -> list[Record]:
        record_id = str(record.get("id"))
        return await self._log.read(lambda archive, spool, _: inquiries_about(archive, spool, record_id))


def _is_unknown(record: Record) -> bool:
    return record.get("kind") == "exchange" and is_unresolved(record)


def with_inquiries(page: PageContent, record: Record, found: Sequence[Record], objection: str) -> PageContent:
    """Return the request's *page* with the inquiries *found*, and with the button or the *objection* to it.

    Once an inquiry has settled the outcome there is neither: the page begins with what the bank said.
    """
    settled = decisive(record, found)
    table = Table(
        title="What the bank was asked",
        columns=("time", "by", "asked", "answer", "it means", "record"),
        rows=tuple(map(_row, found)),
        empty="It was not asked about this request.",
    )
    return replace(
        page,
        tone=Tone.PLAIN if settled else page.tone,
        lead=said(settled) if settled else page.lead,
        data={**page.data, "inquiries": list(found)},
        blocks=(page.blocks[0], table, *page.blocks[1:]),
        template="request.html",
        more={"ask": ASK, "id": record.get("id", ""), "objection": objection, "settled": settled is not None},
    )


def _row(one: Record) -> tuple[Cell, ...]:
    verdict = cell(one.get("verdict"))
    return (
        Cell(local_text(one.get("time"))),
        Cell(cell(one.get("who"))),
        Cell(cell(one.get("asked"))),
        Cell(": ".join(filter(None, (cell(one.get("answer_status") or ""), cell(one.get("cause"))))) or "no answer"),
        Cell(verdict.replace("_", " "), _TONES.get(verdict, Tone.PLAIN)),
        Cell(cell(one.get("id")), href=f"{PATH}/{cell(one.get('id'))}"),
    )
