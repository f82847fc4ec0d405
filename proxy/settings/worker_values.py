"""Settings as plain values for workers; they contain no signing keys."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerValues:
    """The traffic listener; sizes in bytes, times in seconds. *loopback*: it listens on loopback or a Unix socket."""

    hosts: tuple[str, ...]
    loopback: bool
    allow_browsers: bool
    trusted_proxies: tuple[str, ...]
    certificate_file: str
    key_file: str
    client_ca_file: str
    max_header_bytes: int
    max_body_bytes: int
    body_memory_bytes: int
    max_requests: int
    exchange_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamValues:
    """A bank base URL, parsed: *prefix* is "" or starts with a slash and does not end in one; times in seconds."""

    name: str
    scheme: str
    host: str
    port: int
    prefix: str
    connect_timeout: float
    response_timeout: float
    idle_timeout: float
    ca_file: str
    client_certificate_file: str
    client_key_file: str
    egress_proxy: str
    max_connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialValues:
    """The fields of a credential that identify a token; no secret."""

    name: str
    token_url: str
    client_id: str
    auth_method: str
    audience_parameter: str
    extra_parameters: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemintValues:
    """An answer that means "token refused": *status*, and *body* among its first 4 KiB ("" for any)."""

    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteValues:
    """A rule as configured; *scope* is the effective one (the flavor's default applied).

    *signed_type* is the Content-Type of signed bodies, "" if the rule signs none; the key is in the keeper.
    """

    name: str
    path: str
    methods: tuple[str, ...]
    callers: tuple[str, ...]
    upstream: str
    credential: str
    audience: str
    scope: str
    strip_prefix: str
    replay_body_bytes: int
    remint_on: tuple[RemintValues, ...]
    signed_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerValues:
    """A caller; *api_key_sha256* in lower-case hex.

    *facade_client_id* is its client id at the facade. *assertion_keys* are the RSA keys (modulus as hex, public
    exponent) of the certificates that verify its assertions.
    """

    name: str
    networks: tuple[str, ...]
    api_key_sha256: tuple[str, ...]
    certificate_subject: str
    max_requests_per_second: float
    facade_client_id: str = ""
    assertion_keys: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SideValues:
    """One side of a migration; *scope* is the effective one, *upstream* "" means each route's own."""

    credential: str
    audience: str
    scope: str
    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationValues:
    """A migration of *routes*; *sticky* is "caller", "request" (for *methods* only) or "header:NAME"."""

    name: str
    routes: tuple[str, ...]
    legacy: SideValues
    modern: SideValues
    sticky: str
    methods: tuple[str, ...]
    pinned_legacy: tuple[str, ...]
    pinned_modern: tuple[str, ...]
    fallback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FacadeValues:
    """The token endpoint for callers that request tokens themselves; *token_lifetime* in seconds.

    Without *signing_key_files* the key is facade.key in the data directory, which the keeper creates at start.
    *own_hosts* are lower-case names and addresses of this proxy in an assertion's audience, valid with *own_port* (0:
    any port) or the scheme's default port.
    """

    paths: tuple[str, ...]
    token_lifetime: int
    signing_key_files: tuple[str, ...]
    accepted_assertion_audiences: tuple[str, ...]
    own_hosts: tuple[str, ...] = ()
    own_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLogValues:
    """A worker's settings for the request log; header names are spelled as configured.

    The key in *body_hmac_key_file* ("" for no HMAC) signs nothing for the bank, so a worker may read it.
    """

    durability: str
    intent_methods: tuple[str, ...]
    index_headers: tuple[str, ...]
    index_answer_headers: tuple[str, ...] = ()
    body_hmac_key_file: str = ""
    spool_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All plain values of one configuration; *digest* identifies it (16 hex digits), *data_directory* is absolute.

    *chain* is the id of the data directory, which records contain.
    """

    environment: str
    instance: str
    digest: str
    data_directory: str
    server: ServerValues
    upstreams: tuple[UpstreamValues, ...]
    credentials: tuple[CredentialValues, ...]
    routes: tuple[RouteValues, ...]
    callers: tuple[CallerValues, ...]
    request_log: RequestLogValues
    migrations: tuple[MigrationValues, ...] = ()
    facade: FacadeValues | None = None
    chain: str = ""


def callers_of(snapshot: Snapshot, migration: MigrationValues) -> set[str]:
    """Return the callers allowed on the routes of *migration*; "" (anonymous) if no callers are configured."""
    everyone = {caller.name for caller in snapshot.callers} or {""}
    rules = [route for route in snapshot.routes if route.name in migration.routes]
    return set().union(*(everyone.intersection(route.callers) if route.callers else everyone for route in rules))
