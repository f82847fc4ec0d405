"""Settings in other forms: plain values for workers, a view with masked secrets for people."""

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Any, TypeVar

from proxy.secret import Secret
from proxy.settings.addresses import listen_address, url_parts
from proxy.settings.facade_rules import own_hosts
from proxy.settings.findings import Key
from proxy.settings.migration import SideSection
from proxy.settings.model import RouteSection, Settings, UpstreamSection
from proxy.settings.secret_text import names_a_secret
from proxy.settings.section import Section, default_of
from proxy.settings.worker_values import (
    CallerValues,
    CredentialValues,
    FacadeValues,
    MigrationValues,
    RemintValues,
    RequestLogValues,
    RouteValues,
    ServerValues,
    SideValues,
    Snapshot,
    UpstreamValues,
)

AssertionKeys = Mapping[str, tuple[tuple[str, int], ...]]

_Values = TypeVar("_Values")


def masked(section: Section) -> dict[str, Any]:
    """Return every effective value of *section*, usually Settings, by key, in JSON types; secrets are `***`."""
    return {field.name: _masked(getattr(section, field.name)) for field in fields(section)}


def _masked(value: Any) -> Any:
    if isinstance(value, Section):
        return masked(value)
    if isinstance(value, tuple):
        return [_masked(one) for one in value]
    if isinstance(value, dict):
        # Strings here are form fields of a credential.
        return {
            name: "***" if isinstance(one, str) and names_a_secret(name) else _masked(one)
            for name, one in value.items()
        }
    return str(value) if isinstance(value, str | Secret) else value  # of a StoreUrl the text without its password


def defaults(value: object, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Yield the default, as `masked` shows it, of each key in *value*, Settings at first; none for required ones."""
    if isinstance(value, Section):
        for field in fields(value):
            default = default_of(field)
            if default is not MISSING:
                yield (*key, field.name), _masked(default)
            yield from defaults(getattr(value, field.name), (*key, field.name))
    elif isinstance(value, tuple):
        for number, one in enumerate(value):
            yield from defaults(one, (*key, number))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from defaults(one, (*key, name))


def digest(settings: Settings) -> str:
    """Return 16 hex digits that identify this configuration; secrets do not influence them."""
    text = json.dumps(masked(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def body_keys(settings: Settings) -> dict[str, str]:
    """Return, by route, the name of the key that signs bodies; routes without one are missing."""
    signed = ((route.name, route.signature) for route in settings.routes if route.signature.configured)
    return {
        name: one.private_key_file or one.private_key_uri.partition("?")[0] or one.signer_command[0]
        for name, one in signed
    }


def instance_name(settings: Settings) -> str:
    """Return the instance's name in records and shared stores."""
    return settings.instance or socket.gethostname()


def snapshot_of(
    settings: Settings, *, instance: str, chain: str = "", assertion_keys: AssertionKeys = MappingProxyType({})
) -> Snapshot:
    """Return the values of *settings* for a worker of *instance*, whose records belong to *chain*.

    *assertion_keys* are the callers' RSA keys, modulus in hex and exponent, as read from their certificates.
    """
    server = settings.server
    return Snapshot(
        environment=settings.environment,
        instance=instance,
        chain=chain,
        digest=digest(settings),
        data_directory=settings.data_directory,
        server=_values(
            ServerValues,
            server,
            hosts=tuple(host.lower() for host in server.hosts),
            loopback=listen_address(server.listen).loopback,
        ),
        upstreams=tuple(_upstream(name, upstream) for name, upstream in settings.upstreams.items()),
        credentials=tuple(
            _values(
                CredentialValues,
                credential,
                name=name,
                extra_parameters=tuple(_parameters(credential.extra_parameters)),
            )
            for name, credential in settings.credentials.items()
        ),
        routes=tuple(
            _values(
                RouteValues,
                route,
                scope=_scope(settings, route),
                remint_on=tuple(_values(RemintValues, one) for one in route.remint_on),
                signed_type=route.signature.content_type if route.signature.configured else "",
            )
            for route in settings.routes
        ),
        callers=tuple(
            _values(
                CallerValues,
                caller,
                name=name,
                api_key_sha256=tuple(value.lower() for value in caller.api_key_sha256),
                assertion_keys=assertion_keys.get(name, ()),
            )
            for name, caller in settings.callers.items()
        ),
        request_log=_values(RequestLogValues, settings.request_log),
        migrations=tuple(
            _values(
                MigrationValues,
                migration,
                name=name,
                legacy=_side(settings, migration.legacy),
                modern=_side(settings, migration.modern),
                pinned_legacy=migration.pin.legacy,
                pinned_modern=migration.pin.modern,
            )
            for name, migration in settings.migrations.items()
        ),
        facade=_facade(settings),
    )


def _values(kind: type[_Values], section: Section, **others: Any) -> _Values:
    """Return the values of *kind*: *others*, and all else from the section's keys of the same names."""
    same = {field.name: getattr(section, field.name) for field in fields(kind) if field.name not in others}  # type: ignore[arg-type]  # a dataclass
    return kind(**same, **others)


def _upstream(name: str, upstream: UpstreamSection) -> UpstreamValues:
    url = url_parts(upstream.url)
    return _values(
        UpstreamValues, upstream, name=name, scheme=url.scheme, host=url.host, port=url.port, prefix=url.path
    )


def _side(settings: Settings, side: SideSection) -> SideValues:
    return _values(SideValues, side, scope=_scope(settings, side))


def _parameters(extra: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield *extra* in order, instead of a secret its SHA-256: workers only tell tokens apart by them."""
    for name, value in sorted(extra.items()):
        yield name, hashlib.sha256(value.encode()).hexdigest() if names_a_secret(name) else value


def _scope(settings: Settings, side: SideSection | RouteSection) -> str:
    return side.scope or settings.credentials[side.credential].default_scope


def _facade(settings: Settings) -> FacadeValues | None:
    if not settings.facade.paths:
        return None
    # A Unix socket has no port: the server in front of it is assumed to use the usual ones.
    port = getattr(listen_address(settings.server.listen), "port", 443)
    return _values(FacadeValues, settings.facade, own_hosts=own_hosts(settings.server), own_port=port)
