"""Decide whether the instance is live, started and ready, each with reasons, from a `Status`. No I/O."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.telemetry.status import Status, TokenStatus, WorkerState
from proxy.telemetry.troubles import troubles
from proxy.text import printable

# An unresponsive token endpoint must not block the start forever: routes with other credentials can serve.
FIRST_MINT_SECONDS = 15.0
# The checks whose reason stays the same while the state does.
_STEADY = frozenset({"configuration", "keys", "workers", "callers", "draining", "first_mints", "reload"})


class CheckStatus(StrEnum):
    """DEGRADED is shown and counted but never makes an instance unready."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One named check and its verdict; *reason* is "" if the verdict is OK."""

    name: str
    verdict: CheckStatus = CheckStatus.OK
    reason: str = ""


def live(_status: Status) -> tuple[Check, ...]:
    """Return the checks of /livez: the keeper's answer is sufficient; a restart would fix nothing else."""
    return (Check(name="keeper"),)


def started(status: Status) -> tuple[Check, ...]:
    """Return the checks of /startupz."""
    return (_configuration(status), _keys(status), _workers(status), _first_mints(status))


def ready(status: Status) -> tuple[Check, ...]:
    """Return the checks of /readyz; later token failures only degrade: one endpoint's outage can't stop all replicas.

    The exception is configured: a credential in ready_requires must hold a usable token for each audience.
    """
    return (
        _configuration(status),
        _keys(status),
        _workers(status),
        _callers(status),
        _verdict("journal", failed=status.journal_problem),
        _verdict("draining", failed="the instance is stopping" if status.draining else ""),
        _first_mints(status),
        _verdict("reload", degraded=status.reload_problem),
        *_sinks(status),
        *_migrations(status),
        *_token_sharing(status),
        *_credentials(status),
    )


def holds(checks: Iterable[Check]) -> bool:
    """Return whether none of *checks* failed."""
    return all(check.verdict is not CheckStatus.FAILED for check in checks)


def status_values(status: Status) -> dict[str, Any]:
    """Return what /api/status serves: the members of *status*, whether it is ready, checks and troubles."""
    checks = ready(status)
    shown = [{"name": one.name, "verdict": one.verdict, "reason": one.reason} for one in checks]
    return status.as_dict() | {"ready": holds(checks), "checks": shown, "troubles": troubles(status)}


def lines(checks: Iterable[Check], *, title: str) -> str:
    """Return the text of ?verbose: `[+]name ok`, `[!]name degraded: reason`, `[-]name failed: reason`, the result."""
    checks = tuple(checks)
    marks = {CheckStatus.OK: "[+]", CheckStatus.DEGRADED: "[!]", CheckStatus.FAILED: "[-]"}
    text = "".join(
        f"{marks[check.verdict]}{check.name} {check.verdict}{': ' if check.reason else ''}{_reason(check)}\n"
        for check in checks
    )
    return f"{text}{title} check {'passed' if holds(checks) else 'failed'}\n"


def summary(checks: Iterable[Check], *, title: str) -> str:
    """Return one line: *title* if none of *checks* failed, and the other checks with what is wrong.

    Reasons that count seconds are left out, so that the line changes only with the state.
    """
    checks = tuple(checks)
    troubled = [check for check in checks if check.verdict is not CheckStatus.OK]
    head = title if holds(checks) else "not ready"
    told = [f"{check.name}: {_reason(check)}" if check.name in _STEADY else check.name for check in troubled]
    return "; ".join([head[:1].upper() + head[1:], *told])


def _configuration(status: Status) -> Check:
    return _verdict("configuration", failed="" if status.config_digest else "no configuration is in force")


def _keys(status: Status) -> Check:
    return _verdict("keys", failed="; ".join(status.key_problems))


def _workers(status: Status) -> Check:
    serving = sum(worker.state is WorkerState.SERVING for worker in status.workers)
    few = f"{serving} of {status.workers_wanted} workers serve"
    silent = [str(worker.worker) for worker in status.workers if worker.state is WorkerState.UNRESPONSIVE]
    if silent:
        few += f"; worker {', '.join(silent)} does not respond, and is replaced if that lasts"
    if not serving:
        # The "draining" check reports this; that workers leave then is no second fault.
        return _verdict("workers", failed="" if status.draining else few)
    return _verdict("workers", degraded=few if serving < status.workers_wanted and not status.draining else "")


def _callers(status: Status) -> Check:
    full = [str(worker.worker) for worker in status.workers if worker.full]
    reason = f"worker {', '.join(full)} is out of file descriptors, so new callers wait: raise its limit (LimitNOFILE)"
    return _verdict("callers", degraded=reason if full else "")


def _first_mints(status: Status) -> Check:
    untried = sorted({token.credential for token in status.tokens if not token.tried})
    if not untried:
        return Check(name="first_mints")
    reason = f"no answer yet for {', '.join(untried)}"
    if status.uptime >= FIRST_MINT_SECONDS:
        return _verdict("first_mints", degraded=reason)
    return _verdict("first_mints", failed=reason)


def _credentials(status: Status) -> Iterator[Check]:
    names = {token.credential for token in status.tokens} | set(status.ready_requires)
    for name in sorted(names):
        tokens = [token for token in status.tokens if token.credential == name]
        required = name in status.ready_requires
        unusable = [token for token in tokens if not token.usable]
        if required and not tokens:
            yield _verdict(f"credential/{name}", failed="required, and no route uses it")
        elif required and unusable:
            yield _verdict(f"credential/{name}", failed="; ".join(_why(token) for token in unusable))
        else:
            troubled = [token for token in tokens if token.tried and (token.error_code or not token.usable)]
            yield _verdict(f"credential/{name}", degraded="; ".join(_why(token) for token in troubled))


def _sinks(status: Status) -> Iterator[Check]:
    for sink in status.sinks:
        yield _verdict(
            f"sink/{sink.name}", degraded=f"{sink.failing}; {sink.backlog} records wait" if sink.failing else ""
        )


def _migrations(status: Status) -> Iterator[Check]:
    if status.migrations or status.migration_problem:
        yield _verdict("migrations", degraded=status.migration_problem)


def _token_sharing(status: Status) -> Iterator[Check]:
    if status.shares_tokens:
        yield _verdict("token_sharing", degraded=status.sharing_problem)


def _why(token: TokenStatus) -> str:
    holding = f"token for {int(token.seconds_left)} s more" if token.usable else "no usable token"
    error = f": {token.error_code}, {token.meaning}, next try in {int(token.retry_in)} s" if token.error_code else ""
    return f"{token.audience or 'no audience'}: {holding}{error}"


def _verdict(name: str, *, failed: str = "", degraded: str = "") -> Check:
    if failed:
        return Check(name=name, verdict=CheckStatus.FAILED, reason=failed)
    if degraded:
        return Check(name=name, verdict=CheckStatus.DEGRADED, reason=degraded)
    return Check(name=name)


def _reason(check: Check) -> str:
    """Return the reason on one line: what an endpoint sent must not write lines of its own."""
    return printable(check.reason, 500)
