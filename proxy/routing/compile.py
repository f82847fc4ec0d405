"""From plain values to compiled rules: the one table that the data path, the keeper and `explain` share."""

from proxy.credentials.key import TokenKey
from proxy.routing.table import Route, RouteTable
from proxy.settings.snapshot import CredentialValues, RouteValues, Snapshot, UpstreamValues


def route_table(snapshot: Snapshot) -> RouteTable:
    """Return the compiled rules of *snapshot*; raises KeyError for a reference that the settings would refuse."""
    upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}
    credentials = {credential.name: credential for credential in snapshot.credentials}
    return RouteTable(
        _route(values, upstreams[values.upstream], credentials[values.credential]) for values in snapshot.routes
    )


def token_key(credential: CredentialValues, *, audience: str, scope: str) -> TokenKey:
    """Return the identity of the tokens that *credential* gets for *audience* and *scope*."""
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
    """Return scheme://host:port, the form in which tokens say where they may go."""
    return f"{upstream.scheme}://{_bracketed(upstream.host)}:{upstream.port}"


def host_header_of(upstream: UpstreamValues) -> str:
    """Return the Host value for the bank: the port only where it is not the scheme's own (RFC 9110 7.2)."""
    default = 443 if upstream.scheme == "https" else 80
    host = _bracketed(upstream.host)
    return host if upstream.port == default else f"{host}:{upstream.port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _route(values: RouteValues, upstream: UpstreamValues, credential: CredentialValues) -> Route:
    return Route(
        name=values.name,
        path=values.path,
        methods=frozenset(values.methods),
        callers=frozenset(values.callers),
        upstream=values.upstream,
        upstream_host=upstream.host,
        host_header=host_header_of(upstream),
        origin=origin_of(upstream),
        prefix=upstream.prefix,
        strip_prefix=values.strip_prefix,
        token_key=token_key(credential, audience=values.audience, scope=values.scope),
        replay_limit=values.replay_body_bytes,
        remint_on=values.remint_on,
    )
