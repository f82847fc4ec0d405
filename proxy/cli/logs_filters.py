"""The filter options of `logs search` and `logs tail`."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from proxy.cli.logs_unmatched import local_times, refuse_contradictions
from proxy.cli.output import note
from proxy.clock import Clock
from proxy.records.mask import Mask
from proxy.records.query import Query, indexed, parse_status, parse_time

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--caller", default="", help="Name of the caller."),
    click.option("--route", default="", help="Name of the rule."),
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
        type=click.Choice(["exchange", "operation", "configuration", "token", "lifecycle"]),
        help="Kind of record; default: all.",
    ),
)
wide_option = click.option("--wide", is_flag=True, help="Whole lines, whatever the terminal's width.")
_NAMED = (("merchant", "merchant-id"), ("request_id", "request-id"), ("idempotency_key", "idempotency-key"))


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
    refuse_contradictions(filters, query)
    for line in local_times(filters, query):
        note(line)
    return query


def _query(filters: dict[str, Any], *, masks: Sequence[Mask], clock: Clock) -> Query:
    values = [(header, filters[name]) for name, header in _NAMED if filters[name]]
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
