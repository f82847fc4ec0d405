"""Compiles the plain values of a snapshot to the route table that the data path, the keeper and `explain` share."""

from proxy.credentials.token_key import TokenKey
from proxy.migration.side import Policy, Side
from proxy.routing.request_head import LOOPBACK_NAMES, HeadLimits
from proxy.routing.table import Route, RouteMigration, RouteSide, RouteTable
from proxy.settings.worker_values import (
    CredentialValues,
    MigrationValues,
    RouteValues,
    SideValues,
    Snapshot,
    UpstreamValues,
)


def route_table(snapshot: Snapshot) -> RouteTable:
    """Return the compiled rules of *snapshot*; raises KeyError for a reference that the settings would refuse."""
    sides = _Sides(snapshot)
    migrations = {route: migration for migration in snapshot.migrations for route in migration.routes}
    return RouteTable(_route(values, migrations.get(values.name), sides) for values in snapshot.routes)


def head_limits(snapshot: Snapshot) -> HeadLimits:
    """Return the limits for heads; with neither hosts nor callers, a loopback listener takes loopback names only."""
    server = snapshot.server
    hosts = frozenset(host.lower() for host in server.hosts)
    if not hosts and not snapshot.callers and server.loopback:
        hosts = LOOPBACK_NAMES
    return HeadLimits(max_header_bytes=server.max_header_bytes, hosts=hosts, allow_browsers=server.allow_browsers)


def token_key(credential: CredentialValues, *, audience: str, scope: str) -> TokenKey:
    """Return the cache key of the tokens that *credential* gets for *audience* and *scope*."""
    return TokenKey(
        token_url=credential.token_url,
        client_id=credential.client_id,
        auth_method=credential.auth_method,
        audience_parameter=credential.audience_parameter,
        audience=audience,
        scope=scope,
        extra_parameters=credential.extra_parameters,
        credential=credential.name,
    )


def origin_of(upstream: UpstreamValues) -> str:
    """Return scheme://host:port, the form in which a token's permitted origins are stored."""
    return f"{upstream.scheme}://{_bracketed(upstream.host)}:{upstream.port}"


def host_header_of(upstream: UpstreamValues) -> str:
    """Return the Host value for the bank: with the port only if it is not the scheme's default (RFC 9110 7.2)."""
    default = 443 if upstream.scheme == "https" else 80
    host = _bracketed(upstream.host)
    return host if upstream.port == default else f"{host}:{upstream.port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Sides:
    """Builds route sides from the names of upstream and credential."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}
        self._credentials = {credential.name: credential for credential in snapshot.credentials}

    def side(self, *, upstream: str, credential: str, audience: str, scope: str) -> RouteSide:
        values = self._upstreams[upstream]
        return RouteSide(
            upstream=upstream,
            upstream_host=values.host,
            host_header=host_header_of(values),
            origin=origin_of(values),
            prefix=values.prefix,
            token_key=token_key(self._credentials[credential], audience=audience, scope=scope),
        )

    def of(self, values: SideValues, *, own_upstream: str) -> RouteSide:
        return self.side(
            upstream=values.upstream or own_upstream,
            credential=values.credential,
            audience=values.audience,
            scope=values.scope,
        )


def policy_of(values: MigrationValues) -> Policy:
    """Return the policy by which the migration of *values* distributes its requests."""
    return Policy(
        name=values.name,
        sticky=values.sticky,
        methods=frozenset(values.methods),
        pinned={
            **dict.fromkeys(values.pinned_legacy, Side.LEGACY),
            **dict.fromkeys(values.pinned_modern, Side.MODERN),
        },
        fallback=values.fallback,
        sides=" to ".join(f"{one.credential}@{one.upstream}" for one in (values.legacy, values.modern)),
    )


def _route(values: RouteValues, migration: MigrationValues | None, sides: _Sides) -> Route:
    return Route(
        name=values.name,
        path=values.path,
        methods=frozenset(values.methods),
        callers=frozenset(values.callers),
        own=sides.side(
            upstream=values.upstream, credential=values.credential, audience=values.audience, scope=values.scope
        ),
        strip_prefix=values.strip_prefix,
        replay_limit=values.replay_body_bytes,
        remint_on=values.remint_on,
        migration=_migration(migration, values, sides) if migration is not None else None,
        signed_type=values.signed_type.encode("ascii"),
    )


def _migration(values: MigrationValues, route: RouteValues, sides: _Sides) -> RouteMigration:
    return RouteMigration(
        policy=policy_of(values),
        legacy=sides.of(values.legacy, own_upstream=route.upstream),
        modern=sides.of(values.modern, own_upstream=route.upstream),
    )
