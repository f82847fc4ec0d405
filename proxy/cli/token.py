"""`payproxy token ROUTE`: mint an access token for use by hand, and show facts about it."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import click
import jwt

import proxy.lean_aiohttp  # noqa: F401 - before everything else that imports aiohttp
from proxy.cli.audit_record import current_user, write_audit_record
from proxy.cli.configuration import Configuration, valid_configuration
from proxy.cli.instance import STATUS, Denied, NotRunning, ask
from proxy.cli.names import names_of
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, note
from proxy.cli.sigterm import ended_by_sigterm
from proxy.clock import SystemClock
from proxy.credentials.credential import Credential, CredentialUnusable
from proxy.credentials.token_key import TokenKey
from proxy.entropy import SystemEntropy
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import ClockSkewMeasured, Event
from proxy.migration.state import StateUnusable
from proxy.migration.stores.file import FileStore
from proxy.records.audit_records import PrintedToken
from proxy.routing.compile import route_table
from proxy.settings.findings import did_you_mean
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of
from proxy.telemetry.status import meaning
from proxy.tokens.endpoint import TokenEndpoint
from proxy.tokens.response import Minted, printable
from proxy.tokens.token import fingerprint

_HALF = 50
RETRY_PATH = "/api/tokens/retry"

# A smaller clock skew is harmless for assertions.
SKEW_WORTH_SAYING_SECONDS = 5.0


@click.command()
@click.argument("route", shell_complete=names_of("routes"))
@click.option("--side", type=click.Choice(["legacy", "modern"]), help="Of a migrated rule; default: by the weight.")
@file_option
@json_option
def token(route: str, config_path: Path | None, *, side: str | None, as_json: bool) -> None:
    """Mint an access token as the rule ROUTE would and print it, alone, on stdout; facts about it go to stderr.

    If the rule is migrated, the token is for the side that most callers are on by the weight, modern from 50 on. If a
    running instance is waiting after failed mints of this credential and audience, it retries at once. Ends with 1 if
    the credential is refused, with 69 if the token endpoint is unavailable.
    """
    configuration = valid_configuration(config_path)
    key, chosen = _key(configuration, route, side)
    try:
        section = configuration.settings.credentials[key.credential]
        credential = Credential.load(section, name=key.credential)
        with ended_by_sigterm():
            minted, skew = asyncio.run(_mint(credential, key))
    except CredentialUnusable as error:
        raise Failure(str(error), code=ExitCode.CONFIGURATION) from None
    except TokenRefused as error:
        raise Failure(f"{error.detail} {error.cause}\n{meaning(error.code, error.cause)}") from None
    except TokenUnavailable as error:
        raise Failure(f"{error.detail} {error.cause}", code=ExitCode.UNAVAILABLE) from None
    _record(configuration.settings, minted, key)
    value = minted.value.reveal()
    known = chosen | token_facts(minted, key)
    emit({"access_token": value, **known}, as_json=as_json, human=value)
    rows = [(name, f"{fact} s" if name == "lifetime" else str(fact)) for name, fact in known.items() if fact != ""]
    note(facts([(name.replace("_", " "), text) for name, text in rows]))
    if abs(skew) > SKEW_WORTH_SAYING_SECONDS:
        note(f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the token endpoint's")
    place = Path(configuration.settings.data_directory)
    with contextlib.suppress(NotRunning, Denied):
        ask(place, RETRY_PATH, {"credential": key.credential, "audience": key.audience})
        note("the running instance tries again at once instead of waiting")


def _record(settings: Settings, minted: Minted, key: TokenKey) -> None:
    """Record the user who got the token; skipped with a message if there is no data directory yet."""
    printed = PrintedToken(
        who=current_user(),
        credential=key.credential,
        audience=key.audience,
        fingerprint=fingerprint(minted.value.reveal()),
        lifetime=minted.lifetime,
    )
    try:
        write_audit_record(settings, lambda records: records.printed(printed))
    except OSError as error:
        note(f"it is not recorded: {settings.data_directory}: {error.strerror}")


def token_facts(minted: Minted, key: TokenKey) -> dict[str, Any]:
    """Return the facts about a token that may be shown: all but the token."""
    header = jwt_header(minted.value.reveal())
    return {
        "credential": key.credential,
        "token_url": key.token_url,
        "audience": key.audience,
        "lifetime": round(minted.lifetime),
        "fingerprint": fingerprint(minted.value.reveal()),
        "form": f"JWT, {header['alg']}" if header else "opaque",
        "returned_aud": minted.audience_claim,
        "returned_scope": minted.scope,
        "returned_kid": header.get("kid", ""),
        "bound_to_certificate": minted.certificate_thumbprint,
    }


def jwt_header(value: str) -> dict[str, str]:
    """Return alg and kid of a JWT (RFC 7515 4.1), made printable; {} if *value* is no JWT."""
    try:
        header = jwt.get_unverified_header(value)
    except (jwt.InvalidTokenError, RecursionError):
        return {}
    return {name: printable(str(header[name])) for name in ("alg", "kid") if "alg" in header and name in header}


def _key(configuration: Configuration, name: str, side: str | None) -> tuple[TokenKey, dict[str, Any]]:
    """Return the token key of the rule *name*, and for a migrated rule the side and the reason."""
    settings = configuration.settings
    routes = route_table(snapshot_of(settings, instance="token")).routes
    route = next((route for route in routes if route.name == name), None)
    if route is None:
        known = did_you_mean(name, [route.name for route in routes])
        raise click.BadParameter(f"there is no route of that name; {known}", param_hint="ROUTE")
    migration = route.migration
    if migration is None:
        if side is not None:
            raise click.BadParameter(f"no migration moves {name}, so it has no sides", param_hint="--side")
        return route.own.token_key, {}
    weight, source = _weight(Path(settings.data_directory), migration.policy.name)
    chosen = side or ("modern" if weight >= _HALF else "legacy")
    way = migration.modern if chosen == "modern" else migration.legacy
    why = "--side" if side else f"weight {weight}, {source}"
    if not side and 0 < weight < 2 * _HALF:
        why += f"; other callers are on {'legacy' if chosen == 'modern' else 'modern'}: see --side"
    return way.token_key, {"side": chosen, "weight": weight, "why": why}


def _weight(data_directory: Path, migration: str) -> tuple[int, str]:
    """Return the weight of *migration*, and its source in words; 0 if unknown."""
    try:
        known: list[dict[str, Any]] = ask(data_directory, STATUS)["migrations"]
    except (NotRunning, Denied, KeyError):
        try:
            state = FileStore(data_directory).load().states.get(migration)
        except StateUnusable as error:
            return 0, f"no instance runs, and {error}"
        return (state.weight, "as the last instance left it") if state is not None else (0, "it was never changed")
    weights = [int(one["weight"]) for one in known if one["name"] == migration]
    return (
        (weights[0], "in the running instance")
        if weights
        else (0, "the running instance does not know the migration yet")
    )


async def _mint(credential: Credential, key: TokenKey) -> tuple[Minted, float]:
    """Return a token and the endpoint's clock minus ours, in seconds."""
    skews = [0.0]

    def observe(event: Event) -> None:
        if isinstance(event, ClockSkewMeasured):
            skews.append(event.seconds)

    endpoint = TokenEndpoint(credential, clock=SystemClock(), entropy=SystemEntropy(), observe=observe)
    try:
        minted = await endpoint.mint(audience=key.audience, scope=key.scope)
    finally:
        await endpoint.close()
    return minted, skews[-1]
