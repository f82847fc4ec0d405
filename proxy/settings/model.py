"""The configuration as types; attribute names are the keys of payproxy.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.inquiry import InquirySection
from proxy.settings.migration import MigrationSection
from proxy.settings.section import Field, Section
from proxy.settings.signature import SignatureSection
from proxy.settings.stores import REDIS, StoreUrl

if TYPE_CHECKING:
    from proxy.settings.field_types import (
        DatabaseUrl,
        RedisUrl,
        RefusalStatus,
        RequestsPerSecond,
        TokenLifetime,
        Workers,
    )
    from proxy.settings.fields import (
        BaseUrl,
        Bytes,
        Count,
        EgressProxy,
        HeaderNames,
        HostNames,
        InstanceName,
        KeyHashes,
        Listen,
        Methods,
        Name,
        Names,
        Networks,
        OptionalListen,
        PathText,
        PathTexts,
        PlainPaths,
        RequiredText,
        RouteName,
        RoutePath,
        ScryptHash,
        Seconds,
        StripPrefix,
        Subject,
        Text,
    )

Environment = Literal["mock", "client-testing", "production"]


class ServerSection(Section):
    """[server]: the traffic listener; every path on it belongs to the bank's API."""

    listen: Listen = Field("127.0.0.1:8080", description="host:port, [v6]:port or unix:/path")
    workers: Workers = Field(1, description="worker processes, besides the keeper; 0 = one per core")
    hosts: HostNames = Field(
        (), description="accepted Host names (else 421); empty: any with callers, loopback names without"
    )
    allow_anonymous: bool = Field(
        default=False, description="needed without [callers] on a non-loopback listener, and in production anywhere"
    )
    allow_browsers: bool = Field(
        default=False, description="serve requests with Origin or Sec-Fetch-Site; else a web page can't pay"
    )
    trusted_proxies: Networks = Field(
        (), description="networks whose Forwarded and X-Forwarded-For are believed for the caller's address"
    )
    certificate_file: PathText = Field("", description="TLS certificate for callers; with key_file")
    key_file: PathText = Field("", description="key of the TLS certificate, mode 0600")
    client_ca_file: PathText = Field(
        "", description="CA of the callers' certificates; every caller needs one (mutual TLS)"
    )
    max_header_bytes: Count = Field(65536, description="size of a request's header section; above: 431")
    max_body_bytes: Bytes = Field(
        0, description="size of a request's body; above: 413; 0 = unlimited (large bodies are streamed)"
    )
    body_memory_bytes: Count = Field(
        134217728, description="bodies held for replay, all together, per worker; above: 503 overloaded"
    )
    max_requests: Count = Field(1024, description="requests in flight per worker; above: 503 overloaded")
    exchange_timeout: Seconds = Field(200.0, description="seconds for both sends together; drain lasts as long")


class AdminSection(Section):
    """[admin]: health, metrics and console; never on the traffic listener."""

    listen: OptionalListen = Field("127.0.0.1:9901", description='host:port, [v6]:port or unix:/path; "" turns it off')
    console: bool = Field(
        default=True, description="false: health and metrics only, then a non-loopback listener is fine"
    )
    hosts: HostNames = Field((), description="accepted Host names beyond loopback")
    certificate_file: PathText = Field("", description="TLS certificate; with key_file")
    key_file: PathText = Field("", description="key of the TLS certificate, mode 0600")
    ready_requires: Names = Field((), description="credentials without which the instance is not ready")
    operators: dict[RequiredText, ScryptHash] = Field(
        {},
        description="NAME = scrypt hash, no password; for a console on a non-loopback listener and for actions in it",
    )


class UpstreamSection(Section):
    """[upstreams.NAME]: a base URL of the bank."""

    url: BaseUrl = Field(description="base URL: https, http on loopback only; may carry a path prefix")
    connect_timeout: Seconds = Field(5.0, description="seconds to connect; also bounds waiting for a free connection")
    response_timeout: Seconds = Field(
        90.0, description="seconds of each wait on the bank; it ends a transaction after 70"
    )
    idle_timeout: Seconds = Field(15.0, description="seconds a pooled connection is kept; keep it below the bank's")
    ca_file: PathText = Field("", description="private CA; verification can't be turned off")
    client_certificate_file: PathText = Field(
        "", description="TRANSPORT certificate for APIs that want mutual TLS; with client_key_file"
    )
    client_key_file: PathText = Field("", description="key of the client certificate, mode 0600")
    egress_proxy: EgressProxy = Field("", description="http://HOST:PORT of a proxy on the way to the bank (CONNECT)")
    max_connections: Count = Field(256, description="connections per worker")
    foreign_host: bool = Field(default=False, description="allow a host outside the bank's domains and loopback")


class RemintSection(Section):
    """An answer that means "token refused"."""

    status: RefusalStatus = Field(description="status of the answer, 400 to 499")
    body: Text = Field("", description="text among the first 4 KiB of the answer's body; empty: any")


class RouteSection(Section):
    """[[routes]]: the first match on path and method wins."""

    name: RouteName = Field(description="name of the rule, in records, metrics and commands")
    path: RoutePath = Field(
        description="whole segments: /payment/v2 also matches /payment/v2/x; `*` is one non-empty segment"
    )
    methods: Methods = Field((), description="methods; empty: all")
    callers: Names = Field((), description="callers that may use it (403); empty: every admitted caller")
    upstream: RequiredText = Field(description="name of an [upstreams] table")
    credential: RequiredText = Field(description="name of a [credentials] table")
    audience: Text = Field("", description="audience (or resource) that the token is minted for")
    scope: Text = Field("", description="scope that the token is minted for; default by flavor")
    strip_prefix: StripPrefix = Field("", description="whole segments removed from the path before it is sent")
    replay_body_bytes: Bytes = Field(1048576, description="bodies up to this size are held whole and can be sent again")
    remint_on: tuple[RemintSection, ...] = Field(
        (), description='further answers that mean "token refused", like {status = 403, body = "GCA-001"}'
    )
    signature: SignatureSection = Field(
        SignatureSection(),
        description='{private_key_file, content_type = "text/xml"}: sign the body of POST and PUT; see body-signing.md',
    )
    inquiry: InquirySection = Field(
        InquirySection(),
        description="{path, found, not_found, automatic = false}: how to ask the bank about a request whose outcome is "
        "unknown",
    )


class CallerSection(Section):
    """[callers.NAME]: who may call; a caller needs every proof that is configured for it."""

    networks: Networks = Field((), description="networks it calls from")
    api_key_sha256: KeyHashes = Field(
        (), description="SHA-256 of its key in hex; two values overlap while a key is replaced"
    )
    certificate_subject: Subject = Field("", description="subject of its client certificate (RFC 4514): CN=erp,O=Acme")
    max_requests_per_second: RequestsPerSecond = Field(0.0, description="above: 429; 0 = unlimited")
    facade_client_id: Text = Field("", description="what it calls itself at the facade's token endpoint")
    assertion_certificate_files: PathTexts = Field(
        (), description="certificates of the keys that sign its client assertions for the facade; else it sends its key"
    )


class RequestLogSection(Section):
    """[request_log]: where records go, and which requests have an intent on disk before they are sent."""

    stdout: bool = Field(default=True, description="one JSON line per record on stdout")
    file: PathText = Field("", description="file of JSON lines; reopened when moved away")
    database: DatabaseUrl = Field(
        StoreUrl("sqlite:requests.db"),
        description='sqlite:FILE, relative to data_directory, or postgresql://...; "" turns it off',
    )
    database_file: PathText = Field("", description="file with the database's URL, mode 0600: for one with a password")
    durability: Literal["intent", "async"] = Field("intent", description="intent: on disk before it is sent | async")
    intent_methods: Methods = Field(
        ("POST", "PUT", "PATCH", "DELETE"),
        description="methods that have an intent, and so has any that is no standard one",
    )
    index_headers: HeaderNames = Field(
        ("request-id", "requestId", "merchant-id", "merchantId", "Idempotency-Key"),
        description="request headers whose values are kept in records",
    )
    index_answer_headers: HeaderNames = Field(
        ("request-id", "Duplicate-Request"), description="headers of the bank's answer whose values are kept in records"
    )
    body_hmac_key_file: PathText = Field(
        "", description="key, mode 0600, of an HMAC of the body in each record; `logs prove` compares a body with it"
    )
    spool_bytes: Count = Field(
        1073741824, description="journal kept while a sink is away; at the bound requests are refused (log_unavailable)"
    )


class StateSection(Section):
    """[state]: what replicas share; without a URL it is kept in data_directory, for this machine's workers."""

    url: RedisUrl = Field(
        StoreUrl(""),
        description="rediss://HOST:PORT/N or rediss+sentinel://HOST:PORT,HOST:PORT/SERVICE/N, shared by replicas; "
        'redis:// and redis+sentinel:// on loopback only; "" = this machine only',
    )
    url_file: PathText = Field("", description="file with the URL, mode 0600: for one with a password")
    ca_file: PathText = Field("", description="private CA of the Redis; verification can't be turned off")
    encryption_key_files: PathTexts = Field(
        (), description="keys, mode 0600, new first; required with a Redis: every value there is encrypted"
    )

    @property
    def shared(self) -> bool:
        """Return whether the state is kept in a Redis."""
        return bool(self.url or self.url_file)

    def redis(self) -> Secret | None:
        """Return the whole URL of the Redis, None without one; raise UrlUnusable."""
        url = REDIS.read(Path(self.url_file)) if self.url_file else self.url
        return Secret(url.reveal()) if url else None


class FacadeSection(Section):
    """[facade]: a token endpoint for callers; without paths it is off."""

    paths: PlainPaths = Field(
        (),
        description="token endpoints for callers that request tokens themselves, like /adfs/oauth2/token; empty: none",
    )
    token_lifetime: TokenLifetime = Field(3600, description="lifetime of the facade's tokens in seconds, 60 to 86400")
    signing_key_files: PathTexts = Field(
        (),
        description="HMAC keys of the tokens, new first, mode 0600, the same on all replicas; empty: a generated one",
    )
    accepted_assertion_audiences: Names = Field(
        (),
        description="aud of callers' assertions besides our own URL: the bank's, where an old client has it hard-coded",
    )


class Settings(Section):
    """A complete configuration; `proxy.settings.load` merges the sources and has it validated."""

    environment: Environment = Field(description="mock, client-testing or production; shown on every page and record")
    instance: InstanceName = Field("", description="name in records and shared stores; default: the host name")
    data_directory: PathText = Field(
        "payproxy-data", description="journal, state and own keys; default: $STATE_DIRECTORY, else next to the file"
    )
    server: ServerSection = Field(ServerSection(), description="the traffic listener")
    admin: AdminSection = Field(AdminSection(), description="health, metrics and console")
    upstreams: dict[Name, UpstreamSection] = Field({}, description="base URLs of the bank")
    credentials: dict[Name, CredentialSection] = Field({}, description="who we are to the token endpoints")
    routes: tuple[RouteSection, ...] = Field((), description="the rules, in order")
    callers: dict[Name, CallerSection] = Field({}, description="who may call")
    request_log: RequestLogSection = Field(RequestLogSection(), description="where records go")
    state: StateSection = Field(StateSection(), description="what replicas share")
    migrations: dict[Name, MigrationSection] = Field({}, description="rules that move to another credential")
    facade: FacadeSection = Field(
        FacadeSection(), description="the token endpoint for callers that request tokens themselves"
    )
