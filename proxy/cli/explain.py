"""`payproxy explain`: what happens to a request, by the same plan that the data path executes."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from proxy.callers.caller import ANONYMOUS, Caller
from proxy.cli.configuration import valid_configuration
from proxy.cli.names import names_of
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, note
from proxy.clock import SystemClock
from proxy.errors import ProxyError
from proxy.migration.former import ANY_WEIGHT, FormerSetting
from proxy.migration.pin_rows import Pins
from proxy.migration.side_cache import SideCache
from proxy.migration.side_settings import SideSettings
from proxy.migration.state import NEW, Document, StateUnusable
from proxy.migration.stores.file import FileStore
from proxy.migration.stores.pins import NAME as PINS
from proxy.migration.stores.pins import read_pins
from proxy.routing.compile import route_table
from proxy.routing.headers import HeaderLine
from proxy.routing.plan import Plan, plan
from proxy.routing.request_head import HeadLimits, RawHead, RequestHead
from proxy.settings.model import Settings
from proxy.settings.signature import SignatureSection
from proxy.settings.values import snapshot_of

# An unreadable state may have been changed already; the keeper assumes the same.
_UNREAD = replace(NEW, version=1)
# Requests that are spread individually are placed by their id, which only a real request has.
_NO_ID = "explain"
# Later than any time, in epoch seconds.
_EVER = 1e11


@click.command()
@click.argument("method")
@click.argument("path")
@click.option(
    "--caller",
    "caller_name",
    default="",
    shell_complete=names_of("callers"),
    help="The caller's table name; default: an anonymous one.",
)
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the request.")
@file_option
@json_option
def explain(
    method: str, path: str, caller_name: str, headers: tuple[str, ...], config_path: Path | None, *, as_json: bool
) -> None:
    """Print the rule, credential, audience, upstream URL and side that METHOD PATH would get, and why; sends nothing.

    PATH is as in the request line, with its query; http://HOST/... as a client with HTTP_PROXY sends it. If the rule is
    migrated, weight and pins are those of the instance in this data directory; give the header that decides the side,
    or the Idempotency-Key of a retry, with --header.
    """
    settings = valid_configuration(config_path).settings
    # HTTP/1.0 does not require Host: no host is given here.
    raw = RawHead(method=method.upper(), target=path, version=(1, 0), headers=[_header(text) for text in headers])
    if path.partition("?")[0] in settings.facade.paths:
        emit(
            {"facade": path},
            as_json=as_json,
            human="the facade's token endpoint answers it itself, before any rule, and nothing is sent",
        )
        return
    try:
        answer = _answer_of(settings, raw, _caller(settings, caller_name))
    except ProxyError as error:
        refusal = {"code": error.code, "status": error.status, "detail": error.detail, "sent_upstream": "no"}
        emit(refusal, as_json=as_json, human=f"{error.status} {error.code}: {error.detail}\nNothing would be sent.")
        raise click.exceptions.Exit(ExitCode.FAILED) from None
    emit(answer, as_json=as_json, human=facts(list(answer.items())))


def _answer_of(settings: Settings, raw: RawHead, caller: Caller) -> dict[str, str]:
    """Return the answer by name; raises the error that refuses the request."""
    now = SystemClock().now()
    table = route_table(snapshot_of(settings, instance="explain"))
    cache = (
        _side_cache(Path(settings.data_directory), list(settings.migrations)) if settings.migrations else SideCache()
    )
    limits = HeadLimits(max_header_bytes=settings.server.max_header_bytes, hosts=frozenset(), allow_browsers=True)
    found = plan(RequestHead.of(raw, limits), caller, table, cache, request_id=_NO_ID, now=now)
    answer = _answer(found, cache, method=raw.method, caller=caller.name)
    signature = next(route.signature for route in settings.routes if route.name == found.route.name)
    return answer | {"body": _body(found, signature)}


def _header(text: str) -> HeaderLine:
    """Return NAME=VALUE, or NAME: VALUE as in `payproxy request`, as a header."""
    parts = re.fullmatch("([^=:]+)[=:](.*)", text, re.DOTALL)
    if parts is None:
        raise click.BadParameter("write it as NAME=VALUE", param_hint="--header")
    name, value = (part.strip().encode() for part in parts.groups())
    return HeaderLine(name, value, None)


def _caller(settings: Settings, name: str) -> Caller:
    if not name:
        return ANONYMOUS
    if name not in settings.callers:
        raise Failure(f"there is no [callers.{name}]", code=ExitCode.USAGE)
    return Caller(name, "")


def _side_cache(directory: Path, names: Iterable[str]) -> SideCache:
    """Return the state of the migrations *names* from the files in *directory*; reports unreadable files on stderr."""
    cache = SideCache()
    document, readable = Document(), True
    pins: Pins = {}
    try:
        document = FileStore(directory).load()
    except StateUnusable as error:
        note(f"weights are taken as 0: {error}")
        document, readable = Document(states=dict.fromkeys(names, _UNREAD)), False
    try:
        for kept, _ in read_pins(directory / PINS):
            pins |= kept
    except StateUnusable as error:
        note(f"earlier tries are not known: {error}")
        readable = False
    states = {
        name: SideSettings(
            state.weight,
            state.version,
            state.held,
            # Changes that are not settled yet will be within seconds.
            tuple(replace(one, settled=True) for one in document.former.get(name, ()))
            if document.states[name] is not _UNREAD
            else (FormerSetting(ANY_WEIGHT, "", _EVER, settled=True),),
        )
        for name, state in document.states.items()
    }
    cache.set_states(states, readable=readable)
    cache.add_pins(pins, SystemClock().now())
    return cache


def _answer(found: Plan, cache: SideCache, *, method: str, caller: str) -> dict[str, str]:
    route, key, migration = found.route, found.token_key, found.route.migration
    answer = {
        "route": route.name,
        "rule": f"{' '.join(sorted(route.methods)) or 'any method'} {route.path}",
        "credential": key.credential,
        "audience": key.audience,
        "scope": key.scope,
        "token_url": key.token_url,
        "upstream": found.way.upstream,
        "url": _url(found),
        "side": found.side,
        "why": found.why,
    }
    if migration is None:
        return answer
    policy, other = migration.policy, found.fallback
    weight = cache.weight(policy.name)
    fallback = f"{other.side}, {other.token_key.credential} at {_url(other)}" if other is not None else ""
    answer |= {"migration": policy.name, "weight": str(weight), "fallback": fallback}
    fixed = caller in policy.pinned or cache.guard_pinned(policy.name, caller)
    if policy.sticky == "request" and method in policy.methods and 0 < weight < 100 and not fixed:
        answer["why"] = f"weight {weight}, each {method} by itself: this is one of them that goes to {found.side}"
    return answer


def _body(found: Plan, signature: SignatureSection) -> str:
    """Return what becomes of the body, and by which key it is signed."""
    if not signature.configured:
        return "as the caller sends it"
    if not found.signed_type:
        return "as the caller sends it: only those of POST and PUT are signed"
    key = signature.private_key_file or signature.private_key_uri.partition("?")[0] or signature.signer_command[0]
    return f"a JWS (RS256) by the key {key}, as {found.signed_type.decode()}; an empty one as it is"


def _url(found: Plan) -> str:
    return found.origin.removesuffix(":443").removesuffix(":80") + found.target
