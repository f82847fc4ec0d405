"""The filter options of `logs search` and `logs tail`, and which of them can't match.

Contradictions are refused at once, unknown names are reported if nothing was found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click

from proxy.cli.names import names_of
from proxy.cli.output import note
from proxy.clock import Clock
from proxy.records.mask import Mask
from proxy.records.query import Query, header_word, indexed, parse_status, parse_time
from proxy.settings.findings import did_you_mean
from proxy.settings.model import Settings
from proxy.times import has_zone, local

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--caller", default="", shell_complete=names_of("callers"), help="Name of the caller."),
    click.option("--route", default="", shell_complete=names_of("routes"), help="Name of the rule."),
    click.option("--status", default="", metavar="404|5xx", help="Status of the answer to the caller."),
    click.option("--since", default="", metavar="TIME", help="2h, 7d, 2026-11-24T09:30 (local) or 2026-11-24T09:30Z."),
    click.option("--until", default="", metavar="TIME", help="Not from this time on; as --since."),
    click.option("--merchant", default="", metavar="ID", help="Value of merchant-id or merchantId."),
    click.option("--request-id", default="", metavar="ID", help="Value of the caller's or the bank's request-id."),
    click.option("--idempotency-key", default="", metavar="KEY", help="Value of Idempotency-Key."),
    click.option(
        "--index",
        "index",
        multiple=True,
        metavar="NAME=VALUE",
        help="Value of another header of index_headers or index_answer_headers.",
    ),
    click.option("--side", type=click.Choice(["legacy", "modern"]), help="Side of a migration that served it."),
    click.option("--origin", type=click.Choice(["bank", "proxy"]), help="Who gave the answer."),
    click.option("--sent", type=click.Choice(["no", "yes", "unknown"]), help="Whether the bank has the request."),
    click.option(
        "--kind",
        type=click.Choice(["exchange", "inquiry", "operation", "configuration", "token", "lifecycle"]),
        help="Kind of record; default: all.",
    ),
)
wide_option = click.option("--wide", is_flag=True, help="Whole lines, whatever the terminal's width.")
# Filters of members that only records of requests have.
_OF_REQUESTS = ("route", "status", "merchant", "request_id", "idempotency_key", "index", "side", "origin", "sent")
_HEADERS = {"merchant": "merchant-id", "request_id": "request-id", "idempotency_key": "Idempotency-Key"}


def filter_options(command: Command) -> Command:
    """Add the options to *command*, which passes their values to `query_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def query_of(filters: dict[str, Any], *, masks: Sequence[Mask], clock: Clock) -> Query:
    """Return the query for *filters*, the options' values by name; raises a usage error, also if nothing can match.

    Header values are masked like those in records, so that the plain value finds them. Times without a zone are local,
    which a message states.
    """
    query = _query(filters, masks=masks, clock=clock)
    _refuse_contradictions(filters, query)
    for line in _local_times(filters, query):
        note(line)
    return query


def _query(filters: dict[str, Any], *, masks: Sequence[Mask], clock: Clock) -> Query:
    values = [(header, filters[name]) for name, header in _HEADERS.items() if filters[name]]
    for pair in filters["index"]:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise click.BadParameter("write it like NAME=VALUE", param_hint="--index")
        values.append((name, value))
    return Query(
        kind=filters["kind"] or "",
        caller=filters["caller"],
        route=filters["route"],
        side=filters["side"] or "",
        origin=filters["origin"] or "",
        sent=filters["sent"] or "",
        status=_parsed("--status", filters["status"], parse_status),
        since=_parsed("--since", filters["since"], lambda text: parse_time(text, now=clock.now(), zone=None)),
        until=_parsed("--until", filters["until"], lambda text: parse_time(text, now=clock.now(), zone=None)),
        indexed=tuple(indexed(name, value, *masks) for name, value in values),
    )


Parsed = TypeVar("Parsed")


def _parsed(option: str, text: str, parse: Callable[[str], Parsed]) -> Parsed | None:
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _refuse_contradictions(filters: Mapping[str, Any], query: Query) -> None:
    """Raise a usage error if no record at all can match."""
    if query.since is not None and query.until is not None and query.since >= query.until:
        raise click.BadParameter(
            f"the window is empty: it ends at {local(query.until)}, before it begins at {local(query.since)}",
            param_hint="--until",
        )
    asked = [name for name in _OF_REQUESTS if filters[name]]
    if asked and query.kind not in {"", "exchange"}:
        option = f"--{asked[0].replace('_', '-')}"
        raise click.BadParameter(f"records of kind {query.kind} have nothing to compare it with", param_hint=option)


def _local_times(filters: Mapping[str, Any], query: Query) -> Iterator[str]:
    """Yield how times without a zone were interpreted."""
    for option, at in (("since", query.since), ("until", query.until)):
        if at is not None and not has_zone(filters[option]):
            yield f"--{option} {filters[option]} is taken as local time: {local(at)}"


def unlikely(filters: Mapping[str, Any], query: Query, settings: Settings, *, now: float) -> Iterator[str]:
    """Yield filters with values that this configuration does not have, or with times in the future.

    Older records may match all the same, and so may those of a machine whose clock is ahead.
    """
    if query.since is not None and query.since > now:
        yield f"--since: {local(query.since)} is still to come"
    for option, names in (("caller", settings.callers), ("route", [route.name for route in settings.routes])):
        if filters[option] and filters[option] not in names:
            yield f'--{option}: no {option} is called "{filters[option]}"; {did_you_mean(filters[option], names)}'
    if filters["side"] and not settings.migrations:
        yield "--side: there is no migration, and no sides without"
    log = settings.request_log
    kept = (*log.index_headers, *log.index_answer_headers)
    words = {header_word(name) for name in kept}
    asked = [(f"--{name.replace('_', '-')}", header) for name, header in _HEADERS.items() if filters[name]]
    asked += [("--index", pair.partition("=")[0]) for pair in filters["index"]]
    for option, header in asked:
        if header_word(header) not in words:
            yield f"{option}: records keep no header {header}; by request_log.index_headers {', '.join(kept) or 'none'}"
