"""The pages that show the status of the instance: tokens, certificates, callers, errors, sinks."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from proxy.console.page import REFRESH_SECONDS, Cell, PageContent, Table, Tone, count, number
from proxy.telemetry.expiry import time_left
from proxy.telemetry.status import RECENT_SECONDS, CertificateStatus, ErrorStatus, Status, TokenStatus
from proxy.times import duration, local

Row = TypeVar("Row")


def tokens(status: Status) -> PageContent:
    """Return the page of the tokens, one row a credential, audience and scope."""
    usable = sum(token.usable for token in status.tokens)
    return PageContent(
        path="/console/tokens",
        title="Tokens",
        twin="/console/tokens.json",
        refresh=REFRESH_SECONDS,
        data=lambda: {"time": status.time, "tokens": status.as_dict()["tokens"]},
        lead=f"{usable} of {len(status.tokens)} tokens can be used.",
        tone=Tone.GOOD if usable == len(status.tokens) else Tone.BAD,
        blocks=(tokens_table(status),),
    )


def tokens_table(status: Status, *, most: int | None = None) -> Table:
    """Return the table of the tokens; if there are more than *most*, those that need attention first."""
    shown = status.tokens
    if most is not None and len(shown) > most:
        shown = tuple(sorted(shown, key=lambda one: (one.usable, not one.error_code, one.seconds_left)))
    return Table(
        title="Tokens",
        columns=("credential", "audience", "state", "left", "fingerprint", "last error"),
        rows=tuple(_token(token) for token in shown[:most]),
        note=_rest(status.tokens, most, "Tokens"),
        empty="There is no token: no rule has a credential. Add one to [[routes]] in the configuration.",
    )


def _token(token: TokenStatus) -> tuple[Cell, ...]:
    tone = Tone.PLAIN if token.usable else Tone.BAD
    error = (
        f"{token.error_code}: {token.meaning}; next try in {token.retry_in:.0f} s. It said: {token.error}"
        if token.error_code
        else ""
    )
    return (
        Cell(token.credential),
        Cell(token.audience or token.scope or "no audience"),
        Cell(token.state.value, tone),
        Cell(f"{token.seconds_left:.0f} s" if token.usable else "", number=True),
        Cell(token.fingerprint),
        Cell(error, Tone.WARN if error else Tone.PLAIN),
    )


def certificates(status: Status) -> PageContent:
    """Return the page of the certificates, the next to expire first."""
    found = sorted((one.at(status.time) for one in status.certificates), key=lambda one: one.expires)
    expired = sum(one.expires <= status.time for one in found)
    soon = sum(bool(one.warning) for one in found) - expired
    return PageContent(
        path="/console/certificates",
        title="Certificates",
        twin="/console/certificates.json",
        refresh=REFRESH_SECONDS,
        data=lambda: {"time": status.time, "certificates": status.as_dict()["certificates"]},
        lead=(
            f"{expired} expired, {soon} expire soon, {len(found)} in all."
            if expired or soon
            else f"None has expired or expires soon: {len(found)} in all."
        ),
        tone=Tone.BAD if expired else Tone.WARN if soon else Tone.GOOD,
        blocks=(
            Table(
                title="By expiry",
                columns=("name", "use", "left", "until", "subject"),
                rows=tuple(_certificate(one, status.time) for one in found),
                empty="There is no certificate: client secrets, and listeners without TLS, need none.",
                note="`payproxy keys inspect FILE` shows the thumbprints of a certificate; `payproxy keys renew` makes "
                "the next one.",
            ),
        ),
    )


def _certificate(one: CertificateStatus, now: float) -> tuple[Cell, ...]:
    left = one.expires - now
    tone = Tone.BAD if left <= 0 else Tone.WARN if one.warning else Tone.PLAIN
    return (
        Cell(one.name),
        Cell(one.use),
        Cell(time_left(left) if left > 0 else "EXPIRED", tone),
        Cell(local(one.expires)),
        Cell(one.subject),
    )


def callers(status: Status) -> PageContent:
    """Return the page of the callers of the last hour, the busiest first."""
    return PageContent(
        path="/console/callers",
        title="Callers",
        twin="/console/callers.json",
        refresh=REFRESH_SECONDS,
        data=lambda: _recent(status, "callers"),
        lead=f"{len(status.callers)} callers asked {status.recent}.",
        blocks=(callers_table(status, title="By number of requests"),),
    )


def callers_table(status: Status, *, title: str, most: int | None = None) -> Table:
    """Return the table of the *most* callers."""
    return Table(
        title=title,
        columns=("caller", "requests", "fine", "failed", "held back", "client errors", "sent unknown", "last"),
        rows=tuple(
            (
                Cell(one.name or "(anonymous)", href=_requests(caller=one.name) if one.name else ""),
                number(one.requests),
                number(one.fine),
                count(one.failed, Tone.BAD),
                count(one.held_back, Tone.WARN),
                count(one.client_errors, Tone.WARN),
                count(one.sent_unknown, Tone.BAD),
                Cell(f"{duration(status.time - one.last)} ago"),
            )
            for one in status.callers[:most]
        ),
        empty=f"Nobody has asked {status.recent}. Try `payproxy request GET /payment/helloworld`.",
        note=_rest(status.callers, most, "Callers"),
    )


def errors(status: Status) -> PageContent:
    """Return the page of the errors of the last hour, the latest first."""
    return PageContent(
        path="/console/errors",
        title="Errors",
        twin="/console/errors.json",
        refresh=REFRESH_SECONDS,
        data=lambda: _recent(status, "errors"),
        lead=f"{sum(one.count for one in status.errors)} errors of {len(status.errors)} kinds {status.recent}.",
        tone=Tone.WARN if status.errors else Tone.GOOD,
        blocks=(errors_table(status, title="Latest first"),),
    )


def errors_table(status: Status, *, title: str, most: int | None = None) -> Table:
    """Return the table of the *most* latest errors."""
    return Table(
        title=title,
        columns=("error", "times", "last", "route", "caller", "sent", "what it means, and what to do", "last request"),
        rows=tuple(_error(one, status.time) for one in status.errors[:most]),
        empty=f"No error {status.recent}.",
        note=_rest(status.errors, most, "Errors"),
    )


def _error(one: ErrorStatus, now: float) -> tuple[Cell, ...]:
    name = one.code or (f"{one.status} from the bank" if one.status else "no answer")
    cause = f" Cause: {one.cause}." if one.cause else ""
    return (
        Cell(name, Tone.BAD),
        number(one.count),
        Cell(f"{duration(now - one.last)} ago"),
        Cell(one.route),
        Cell(one.caller),
        Cell(one.sent_upstream, Tone.BAD if one.sent_upstream == "unknown" else Tone.PLAIN),
        Cell(f"{one.meaning}{cause} {one.next_step}"),
        Cell(one.id, href=f"/console/requests/{one.id}"),
    )


def sinks(status: Status) -> PageContent:
    """Return the page of the sinks of the request log."""
    failing = [sink.name for sink in status.sinks if sink.failing]
    return PageContent(
        path="/console/sinks",
        title="Request log sinks",
        twin="/console/sinks.json",
        refresh=REFRESH_SECONDS,
        data={"time": status.time, "sinks": [dataclasses.asdict(sink) for sink in status.sinks]},
        lead=f"{', '.join(failing)} can't take records now: they wait on disk." if failing else "All take records.",
        tone=Tone.WARN if failing else Tone.GOOD,
        blocks=(
            Table(
                title="Sinks",
                columns=("sink", "records behind", "dropped", "failing"),
                rows=tuple(
                    (
                        Cell(sink.name),
                        number(sink.backlog),
                        count(sink.dropped, Tone.BAD),
                        Cell(sink.failing, Tone.WARN if sink.failing else Tone.PLAIN),
                    )
                    for sink in status.sinks
                ),
                empty="There is no sink: set stdout, file or database in [request_log].",
            ),
        ),
    )


def migrations_table(status: Status, *, most: int | None = None) -> Table:
    """Return the table of the *most* first migrations."""
    return Table(
        title="Migrations",
        columns=("migration", "phase", "weight", "last change", "held on legacy", "retry pins", "waits for"),
        rows=tuple(
            (
                Cell(one.name, href="/console/migrations"),
                Cell("finished" if one.finished else one.phase),
                Cell(f"{one.weight} % on modern", number=True),
                Cell(f"{one.who}, {local(one.when)}: {one.reason}" if one.who else "never changed"),
                Cell(", ".join(one.guard_pinned), Tone.WARN if one.guard_pinned else Tone.PLAIN),
                number(one.retry_pins),
                Cell("; ".join(filter(None, (one.unsettled, one.unsaved, one.unshared))), Tone.WARN),
            )
            for one in status.migrations[:most]
        ),
        note=_rest(status.migrations, most, "Migrations"),
        empty="There is no migration. One moves callers from the legacy API to the modern one: [migrations.NAME].",
    )


def _recent(status: Status, member: str) -> dict[str, object]:
    return {"time": status.time, "recent_seconds": RECENT_SECONDS, member: status.as_dict()[member]}


def _requests(**filters: str) -> str:
    return f"/console/requests?{urlencode(filters)}"


def _rest(rows: Sequence[Row], most: int | None, title: str) -> str:
    return f"{len(rows) - most} more are on the page {title}." if most is not None and len(rows) > most else ""
