"""Filters that can't match: contradictions are refused at once, unknown names are reported if nothing was found."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from proxy.cli.times import has_zone, local
from proxy.records.query import Query, header_word
from proxy.settings.findings import did_you_mean
from proxy.settings.model import Settings

# Filters of members that only records of requests have.
_OF_REQUESTS = ("route", "status", "merchant", "request_id", "idempotency_key", "index", "side", "origin", "sent")
_HEADERS = {"merchant": "merchant-id", "request_id": "request-id", "idempotency_key": "Idempotency-Key"}


def refuse_contradictions(filters: Mapping[str, Any], query: Query) -> None:
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


def local_times(filters: Mapping[str, Any], query: Query) -> Iterator[str]:
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
