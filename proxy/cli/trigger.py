"""`payproxy trigger`: make a running simulator misbehave, to see what payproxy and its callers do then."""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, json_option
from proxy.settings.load import load
from proxy.simulator.scenario import NAMED, OFF, REVOKED, named_faults

_DEFAULT = "http://127.0.0.1:8090"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_SECONDS = 5.0


@click.command()
@click.argument("fault", type=click.Choice(list(NAMED)))
@click.option("--at", "url", default="", help="The simulator's URL; default: the configuration's upstream on loopback.")
@click.option("--path", default="", help="Prefix of the paths that it concerns; default /payment, for night all.")
@click.option("--times", type=click.IntRange(min=1), help="How many requests meet it; default: all until `off`.")
@click.option("--seconds", type=click.FloatRange(min=0), help="How late the answer of slow is; default 5.")
@file_option
@json_option
def trigger(
    fault: str,
    url: str,
    config_path: Path | None,
    *,
    path: str,
    times: int | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Make the simulator that `simulate` or `demo` runs misbehave; it stays so until `payproxy trigger off`.

    \b
    timeout  requests are executed and get no answer
    reset    requests are executed, then the connection is reset
    revoked  all tokens are revoked, once
    slow     requests are executed, and answered late
    night    everything answers 503, token endpoints too
    off      all faults are taken away
    """  # noqa: D301 - click's mark against wrapping
    changes = {"path": path or None, "times": times, "seconds": seconds}
    given = {name: value for name, value in changes.items() if value is not None}
    if seconds is not None and fault != "slow":
        raise click.BadParameter("only slow has seconds", param_hint="--seconds")
    if given and fault in (REVOKED, OFF):
        raise click.UsageError(f"{fault} concerns everything at once: it has no options")
    simulator = _simulator(url, config_path)
    answer = _send(simulator, fault, given)
    emit(answer, as_json=as_json, human=_words(fault, simulator, answer))


def _send(simulator: str, fault: str, given: Mapping[str, Any]) -> Any:
    if fault == OFF:
        return _ask(simulator, "DELETE", "/_sim/fault")
    if fault == REVOKED:
        return _ask(simulator, "POST", "/_sim/revoke", {"all": True})
    try:
        faults = named_faults(fault, **given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return _ask(simulator, "POST", "/_sim/fault", [one.as_dict() for one in faults])


def _words(fault: str, simulator: str, answer: Any) -> str:
    if fault == OFF:
        return f"{simulator} has no faults any more"
    if fault == REVOKED:
        return f"{simulator} has revoked {answer['revoked']} tokens"
    path, left = answer[-1]["path"], answer[-1]["left"]
    until = "until `payproxy trigger off`" if left is None else f"for the next {left} requests"
    others = [f"{one['kind']} on {one['path']}..." for one in answer[:-1] if one["left"] != 0]
    also = f". Set before and still there: {', '.join(others)}; `payproxy trigger off` takes all away" if others else ""
    return f"{simulator}: {fault} on {path}..., {until}{also}"


def _simulator(url: str, config_path: Path | None) -> str:
    """Return the URL of the simulator that answers, *url* or one by the configuration; raises Failure."""
    # The default only without a configuration for a simulator: on that port may be somebody else's.
    candidates = [_checked(url)] if url else list(dict.fromkeys(_upstreams(config_path))) or [_DEFAULT]
    for candidate in candidates:
        try:
            _ask(candidate, "GET", "/_sim/fault")
        except Failure:
            continue
        return candidate
    raise Failure(
        f"no simulator answers on {' or '.join(candidates)}; is `payproxy simulate` or `demo` running? --at names it",
        code=ExitCode.UNAVAILABLE,
    )


def _checked(url: str) -> str:
    split = urlsplit(url)
    if split.scheme != "http" or split.hostname not in _LOOPBACK:
        raise click.BadParameter("a simulator is on http://127.0.0.1:PORT", param_hint="--at")
    return url.rstrip("/")


def _upstreams(config_path: Path | None) -> Iterator[str]:
    """Yield the URLs on loopback that the configuration sends requests to, if there is one."""
    loaded = load(config_path, environ=os.environ, cwd=Path.cwd())
    settings = loaded.settings or loaded.readable
    for upstream in settings.upstreams.values() if settings else ():
        split = urlsplit(str(upstream.url))
        if split.scheme == "http" and split.hostname in _LOOPBACK:
            yield f"http://{split.netloc}"


def _ask(simulator: str, method: str, path: str, value: Any = None) -> Any:
    """Return the simulator's JSON answer; raises Failure."""
    split = urlsplit(simulator)
    try:
        connection = http.client.HTTPConnection(split.hostname or "", split.port or 80, timeout=_SECONDS)
        connection.request(method, path, None if value is None else json.dumps(value))
        answer = connection.getresponse()
        status, found = answer.status, json.loads(answer.read(1 << 20))
        connection.close()
    except (OSError, ValueError, http.client.HTTPException):
        raise Failure(f"no simulator answers on {simulator}", code=ExitCode.UNAVAILABLE) from None
    if status != 200 or not isinstance(found, list if path == "/_sim/fault" else dict):
        raise Failure(f"what answers on {simulator} is no simulator of payproxy's", code=ExitCode.UNAVAILABLE)
    return found
