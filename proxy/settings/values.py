"""Settings in other forms: plain values for workers, a view with masked secrets for people."""

import hashlib
import json
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from proxy.settings.addresses import listen_address
from proxy.settings.facade_rules import own_hosts
from proxy.settings.fields import url_parts
from proxy.settings.migration import SideSection
from proxy.settings.model import Settings
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

__all__ = ["digest", "instance_name", "listen_address", "masked", "snapshot_of"]


def masked(settings: Settings) -> dict[str, Any]:
    """Return every effective value by key, in JSON types; secrets are `***`."""
    return settings.model_dump(mode="json")


def digest(settings: Settings) -> str:
    """Return 16 hex digits that identify this configuration; secrets do not influence them."""
    text = json.dumps(masked(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


AssertionKeys = Mapping[str, tuple[tuple[str, int], ...]]


def instance_name(settings: Settings) -> str:
    """Return the instance's name in records and shared stores."""
    return settings.instance or socket.gethostname()


def snapshot_of(
    settings: Settings, *, instance: str, chain: str = "", assertion_keys: AssertionKeys = MappingProxyType({})
) -> Snapshot:
    """Return the values of *settings* for a worker of *instance*, whose records belong to *chain*.

    *assertion_keys* are the callers' RSA keys, modulus in hex and exponent, as read from their certificates.
    """
    server, log = settings.server, settings.request_log
    return Snapshot(
        environment=settings.environment,
        instance=instance,
        chain=chain,
        digest=digest(settings),
        data_directory=settings.data_directory,
        server=ServerValues(
            hosts=tuple(host.lower() for host in server.hosts),
            loopback=listen_address(server.listen).loopback,
            allow_browsers=server.allow_browsers,
            trusted_proxies=server.trusted_proxies,
            certificate_file=server.certificate_file,
            key_file=server.key_file,
            client_ca_file=server.client_ca_file,
            max_header_bytes=server.max_header_bytes,
            max_body_bytes=server.max_body_bytes,
            body_memory_bytes=server.body_memory_bytes,
            max_requests=server.max_requests,
            exchange_timeout=server.exchange_timeout,
        ),
        upstreams=_upstreams(settings),
        credentials=_credentials(settings),
        routes=_routes(settings),
        callers=_callers(settings, assertion_keys),
        request_log=RequestLogValues(
            durability=log.durability,
            intent_methods=log.intent_methods,
            index_headers=log.index_headers,
            index_answer_headers=log.index_answer_headers,
            body_hmac_key_file=log.body_hmac_key_file,
            spool_bytes=log.spool_bytes,
        ),
        migrations=_migrations(settings),
        facade=_facade(settings),
    )


def _upstreams(settings: Settings) -> tuple[UpstreamValues, ...]:
    values = []
    for name, upstream in settings.upstreams.items():
        url = url_parts(upstream.url)
        values.append(
            UpstreamValues(
                name=name,
                scheme=url.scheme,
                host=url.host,
                port=url.port,
                prefix=url.path,
                connect_timeout=upstream.connect_timeout,
                response_timeout=upstream.response_timeout,
                idle_timeout=upstream.idle_timeout,
                ca_file=upstream.ca_file,
                client_certificate_file=upstream.client_certificate_file,
                client_key_file=upstream.client_key_file,
                egress_proxy=upstream.egress_proxy,
                max_connections=upstream.max_connections,
            )
        )
    return tuple(values)


def _credentials(settings: Settings) -> tuple[CredentialValues, ...]:
    return tuple(
        CredentialValues(
            name=name,
            token_url=credential.token_url,
            client_id=credential.client_id,
            auth_method=credential.auth_method,
            audience_parameter=credential.audience_parameter,
            extra_parameters=tuple(sorted(credential.extra_parameters.items())),
        )
        for name, credential in settings.credentials.items()
    )


def _routes(settings: Settings) -> tuple[RouteValues, ...]:
    return tuple(
        RouteValues(
            name=route.name,
            path=route.path,
            methods=route.methods,
            callers=route.callers,
            upstream=route.upstream,
            credential=route.credential,
            audience=route.audience,
            scope=route.scope or settings.credentials[route.credential].default_scope,
            strip_prefix=route.strip_prefix,
            replay_body_bytes=route.replay_body_bytes,
            remint_on=tuple(RemintValues(status=one.status, body=one.body) for one in route.remint_on),
        )
        for route in settings.routes
    )


def _callers(settings: Settings, assertion_keys: AssertionKeys) -> tuple[CallerValues, ...]:
    return tuple(
        CallerValues(
            name=name,
            networks=caller.networks,
            api_key_sha256=tuple(value.lower() for value in caller.api_key_sha256),
            certificate_subject=caller.certificate_subject,
            max_requests_per_second=caller.max_requests_per_second,
            facade_client_id=caller.facade_client_id,
            assertion_keys=assertion_keys.get(name, ()),
        )
        for name, caller in settings.callers.items()
    )


def _migrations(settings: Settings) -> tuple[MigrationValues, ...]:
    return tuple(
        MigrationValues(
            name=name,
            routes=migration.routes,
            legacy=_side(settings, migration.legacy),
            modern=_side(settings, migration.modern),
            sticky=migration.sticky,
            methods=migration.methods,
            pinned_legacy=migration.pin.legacy,
            pinned_modern=migration.pin.modern,
            fallback=migration.fallback,
        )
        for name, migration in settings.migrations.items()
    )


def _side(settings: Settings, side: SideSection) -> SideValues:
    return SideValues(
        credential=side.credential,
        audience=side.audience,
        scope=side.scope or settings.credentials[side.credential].default_scope,
        upstream=side.upstream,
    )


def _facade(settings: Settings) -> FacadeValues | None:
    facade = settings.facade
    if not facade.paths:
        return None
    return FacadeValues(
        paths=facade.paths,
        token_lifetime=facade.token_lifetime,
        signing_key_files=facade.signing_key_files,
        accepted_assertion_audiences=facade.accepted_assertion_audiences,
        own_hosts=own_hosts(settings.server),
        # A Unix socket has no port: the server in front of it is assumed to use the usual ones.
        own_port=getattr(listen_address(settings.server.listen), "port", 443),
    )
