"""`payproxy why`: what happened to a request, in a paragraph that an auditor can read and keep."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.inquiries import ask_bank, inquiries_about
from proxy.cli.instance import Denied
from proxy.cli.log_database import NoRecord, configured_database, database_option, masks_of, opened, record_of
from proxy.cli.options import config_option
from proxy.cli.output import Failure, emit, json_option, note, terminal_width, wrapped
from proxy.cli.statements import signed, verified
from proxy.console.why_text import bank_has_it, is_open, is_retry, next_step, paragraph, relation, sends, summary
from proxy.records.anchor import object_in
from proxy.records.archives.stream_spool import Spool
from proxy.records.inquiry_outcome import decisive
from proxy.records.query import Indexed, Query, header_word, indexed
from proxy.settings.model import Settings
from proxy.times import local_text

_MOST = 100
_KEY = header_word("Idempotency-Key")
_MEMBERS = (
    "id",
    "time",
    "environment",
    "instance",
    "caller",
    "method",
    "path",
    "route",
    "credential",
    "audience",
    "side",
)
_OF_INQUIRIES = ("id", "time", "who", "asked", "answer_status", "cause", "verdict")
Record = dict[str, Any]
# What the bank was asked about each request, by its id.
Inquired = Mapping[str, Sequence[Record]]


@click.command()
@click.argument("asked", metavar="ID|KEY", required=False)
@click.option("--ask", "asks", is_flag=True, help="Ask the bank whether it has the requests of unknown outcome.")
@click.option("--sign", "sign", is_flag=True, help="Sign the text with the key of the log's checkpoints.")
@click.option(
    "--verify",
    "statement",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Check a file that --sign or `migration report --html` made, instead.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --verify: the public key that it must be signed with; PEM, or as `logs verify` prints it.",
)
@database_option
@config_option
@json_option
def why(
    asked: str | None,
    statement: Path | None,
    key: Path | None,
    config_path: Path | None,
    database_file: Path | None,
    *,
    asks: bool,
    sign: bool,
    as_json: bool,
) -> None:
    """Say in a paragraph what happened to a request: who, when, by which rule, with which token, sent how often.

    It also says whether the bank has it, and what to do now. ID is a Payproxy-Request-Id; KEY an Idempotency-Key or
    another kept value, given in full: then all requests that had it are told in the order of time, retries named.

    By the log's database and the journals; the proxy need not run. --ask has the running instance ask the bank, by the
    inquiry of the request's rule, for each of these requests whose outcome is unknown; that changes nothing there, and
    what the bank says is recorded. --sign makes a statement that --verify checks.
    """
    if (asked is None) == (statement is None):
        raise click.UsageError("name an ID or a KEY, or a file with --verify")
    if statement is not None:
        verified(statement, key, config_path, as_json=as_json)
        return
    if key is not None:
        raise click.UsageError("--key goes with --verify")
    settings = load_configuration(config_path).settings
    records, more = asyncio.run(_records(settings, database_file, str(asked)))
    inquiries = asyncio.run(inquiries_about(settings, database_file, records))
    if asks:
        _ask(settings, records, inquiries)
    by_id = str(asked).replace("-", "") == str(records[0]["id"]).replace("-", "")
    text = _text(records, inquiries, by_id=by_id)
    first = min(records, key=lambda record: str(record["time"]))
    values: dict[str, Any] = {"asked": asked, "text": text}
    values["exchanges"] = [_values(one, first, inquiries.get(one["id"], [])) for one in records]
    if sign:
        values["signed"] = signed(settings, f"why {asked}", text)
    human = values.get("signed", "\n\n".join(wrapped(part, width=terminal_width()) for part in text.split("\n\n")))
    emit(values, as_json=as_json, human=human.rstrip("\n"))
    if more:
        note(f"These are the newest {_MOST} of more: `payproxy logs search` with --since and --until finds the others.")


async def _records(settings: Settings, database_file: Path | None, asked: str) -> tuple[list[Record], bool]:
    """Return the record of the request id *asked*, or those of all requests with that value, and whether more exist.

    After the record of an id come the other requests with its Idempotency-Key. Raises Failure.
    """
    try:
        one = await record_of(settings, database_file, asked, search_file=True)
    except (NoRecord, click.BadParameter):  # a value, which may look like an id: clients like UUIDs
        log, masks = settings.request_log, masks_of(settings)
        names = {header_word(name): name for name in (*log.index_headers, *log.index_answer_headers)}
        found, more = await _with_values(
            settings, database_file, [indexed(name, asked, *masks) for name in names.values()]
        )
        if not found:
            kept = ", ".join(names.values()) or "none"
            raise Failure(f'no request has the id or the value "{asked}"; values are kept of: {kept}') from None
        return found, more
    if one.get("kind") not in {"exchange", "intent"}:
        raise Failure(f"this is no request: `payproxy logs show {asked}` shows what it is")
    key = next((value for name, value in one["index"].items() if header_word(name) == _KEY), "")
    if not key:
        return [one], False
    found, more = await _with_values(settings, database_file, [Indexed(_KEY, key)])
    return [one, *(record for record in found if record["id"] != one["id"])], more


async def _with_values(
    settings: Settings, database_file: Path | None, values: Sequence[Indexed]
) -> tuple[list[Record], bool]:
    """Return the newest _MOST requests with one of *values* in the order of time, and whether there are more."""
    spool = Spool(Path(settings.data_directory))
    lines = await spool.matching([Query(indexed=(value,)) for value in values])
    database = configured_database(settings, database_file)
    if database is not None:
        async with opened(database) as archive:
            for value in values:
                query = Query(kind="exchange", indexed=(value,))
                lines += (await archive.page(query, before=None, size=_MOST + 1)).records
    found = {record["id"]: record for record in map(object_in, lines)}
    records = sorted(found.values(), key=lambda record: str(record["time"]))
    return records[-_MOST:], len(records) > _MOST


def _ask(settings: Settings, records: Sequence[Record], inquiries: dict[str, list[Record]]) -> None:
    """Ask the bank about each of *records* whose outcome is unknown, and add what came to *inquiries*."""
    unknown = [one for one in records if bank_has_it(one) == "unknown" and not is_open(one)]
    if not unknown:
        note("The bank was not asked: there is no request here that has ended and whose outcome is unknown.")
    for record in unknown:
        try:
            inquiries.setdefault(record["id"], []).append(ask_bank(settings, record))
        except Denied as why:
            raise Denied(f"the bank was not asked about {record['id']}: {why}") from None


def _text(records: Sequence[Record], inquiries: Inquired, *, by_id: bool) -> str:
    if by_id:
        others = [f"{one['id']} ({local_text(one['time'])}, sent {bank_has_it(one)})" for one in records[1:]]
        more = f" {len(others)} other requests had the same Idempotency-Key: {', '.join(others)}." if others else ""
        return paragraph(records[0], inquiries.get(records[0]["id"], ())) + more
    if len(records) == 1:
        return paragraph(records[0], inquiries.get(records[0]["id"], ()))
    told = (
        f"{relation(one, records[0], number)} {paragraph(one, inquiries.get(one['id'], ()))}"
        for number, one in enumerate(records, start=1)
    )
    return "\n\n".join([summary(records), *told])


def _values(record: Record, first: Record, inquiries: Sequence[Record]) -> dict[str, Any]:
    settled = decisive(record, inquiries)
    return {
        **{name: record.get(name, "") for name in _MEMBERS},
        "in_flight": is_open(record),
        "times_sent": len(sends(record)),
        "token_fingerprints": [one.get("token_fingerprint", "") for one in sends(record)],
        "bank_has_it": bank_has_it(record),
        "inquiries": [{name: one.get(name, "") for name in _OF_INQUIRIES} for one in inquiries],
        "settled": settled["verdict"] if settled else "",
        "next_step": next_step(record, inquiries),
        "retry_of": first["id"] if is_retry(record, first) else "",
        "text": paragraph(record, inquiries),
        "sequence": record.get("sequence", 0),
        "hash": record.get("hash", ""),
    }
