"""The token endpoint for callers that request tokens themselves, in place of the bank's (RFC 6749 4.4)."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from proxy.callers.assertion import ClientAssertion, ClientUnproven, printable
from proxy.callers.bearer import BearerTokens
from proxy.callers.caller import Caller, Callers, Proofs, basic_pair
from proxy.callers.form import FormUnusable, read_form
from proxy.callers.rsa_verify import RsaKey
from proxy.clock import Clock
from proxy.errors import CallerTokenInvalid, CallerUnauthenticated
from proxy.secret import Secret
from proxy.settings.worker_values import CallerValues, FacadeValues

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Assertion ids are stored for a warning only; each costs some 150 bytes.
_MOST_IDS: Final = 4096
_PORTS: Final = {"http": 80, "https": 443}


class TokenRequestRefused(Exception):
    """A token request fails with *error* (RFC 6749 5.2); *cause* is for record and operator, never for the client.

    *challenge*: the client used Basic, so the response has to name a scheme.
    """

    def __init__(self, error: str, *, status: int = 400, cause: str, challenge: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.cause = cause
        self.challenge = challenge


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """A request to the facade; *proofs* are the proofs of the connection."""

    content_type: str
    authorization: bytes
    body: bytes
    proofs: Proofs


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A *token* for *caller*, valid *lifetime* seconds; *remark* is a warning for the operator, or ""."""

    caller: Caller
    token: Secret
    lifetime: int
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    name: str
    keys: tuple[RsaKey, ...]
    secrets_sha256: tuple[str, ...]

    def has(self, secret: str) -> bool:
        """Return whether *secret* is one of its keys."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return any(hmac.compare_digest(digest, known) for known in self.secrets_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class _UrlParts:
    """Address and path of a URL; *default_port* is its scheme's."""

    address: tuple[str, int]
    default_port: int
    path: str


class Facade:
    """Issues our tokens for a client's assertion or its caller's key; *bank* has the bank's hosts and ports."""

    def __init__(
        self,
        values: FacadeValues,
        clients: Iterable[CallerValues],
        *,
        callers: Callers,
        tokens: BearerTokens,
        bank: frozenset[tuple[str, int]],
        clock: Clock,
    ) -> None:
        self.paths = frozenset(values.paths)
        self._endings = frozenset(path.rstrip("/") for path in values.paths)
        self._audiences = frozenset(values.accepted_assertion_audiences)
        self._hosts = frozenset(values.own_hosts)
        self._port = values.own_port
        self._clients = {one.facade_client_id: _client(one) for one in clients if one.facade_client_id}
        self._names = frozenset(client.name for client in self._clients.values())
        self._callers = callers
        self._tokens = tokens
        self._bank = bank
        self._clock = clock
        self._seen = _SeenIds()

    def grant(self, request: TokenRequest) -> Granted:
        """Return a token for the client that *request* authenticates; raises TokenRequestRefused.

        `resource`, `audience` and `scope` describe the bank's token. The route decides that here, so they are ignored,
        as unknown parameters are (RFC 6749 3.2); the client sends them, since its code is not changed.
        """
        try:
            form = read_form(request.body, content_type=request.content_type)
        except FormUnusable as error:
            raise TokenRequestRefused("invalid_request", cause=str(error)) from None
        match form.get("grant_type"):
            case "client_credentials":
                pass
            case None:
                raise TokenRequestRefused("invalid_request", cause="grant_type is missing")
            case other:
                raise TokenRequestRefused("unsupported_grant_type", cause=f"grant_type is {printable(other)}")
        basic = request.authorization[:6].lower() == b"basic "
        try:
            client, stand_in, remark = self._authenticated(request, form, basic=basic)
            caller = self._callers.confirm(client.name, request.proofs, stand_in=stand_in)
        except (ClientUnproven, CallerUnauthenticated) as error:
            cause = error.cause if isinstance(error, CallerUnauthenticated) else str(error)
            raise TokenRequestRefused("invalid_client", status=401, cause=cause, challenge=basic) from None
        return Granted(
            caller=caller, token=self._tokens.mint(caller.name), lifetime=self._tokens.lifetime, remark=remark
        )

    def recognise(self, authorization: bytes, proofs: Proofs) -> Caller:
        """Return the caller of a request with *authorization* and *proofs*.

        A token of ours proves its caller only. Any other bearer, as old systems go on sending, proves nothing; a caller
        that sends one and is not identified otherwise gets a 401, so that its client requests a new token here. Raises
        CallerTokenInvalid (401) or CallerUnauthenticated (403, 407).
        """
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return self._callers.identify(proofs)
        name = self._tokens.caller_of(token.strip())
        if name:
            if name not in self._names:
                raise CallerTokenInvalid(cause=f"there is no caller {printable(name)} with a facade_client_id any more")
            return self._callers.confirm(name, proofs, stand_in="token")
        try:
            return self._callers.identify(proofs)
        except CallerUnauthenticated as error:
            raise CallerTokenInvalid(
                cause=f"the bearer is none of ours. {error.detail} {error.cause}".strip()
            ) from None

    def _authenticated(self, request: TokenRequest, form: dict[str, str], *, basic: bool) -> tuple[_Client, str, str]:
        """Return the client, what replaces its key, and a remark; raises ClientUnproven, TokenRequestRefused."""
        if basic + ("client_secret" in form) + ("client_assertion" in form) > 1:
            raise TokenRequestRefused("invalid_request", cause="more than one client authentication (RFC 6749 2.3)")
        named = form.get("client_id", "")
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION_TYPE:
                raise TokenRequestRefused("invalid_request", cause=f"client_assertion_type must be {ASSERTION_TYPE}")
            assertion = ClientAssertion.read(form["client_assertion"])
            if named not in ("", assertion.client_id):
                raise ClientUnproven("client_id is not the client of the assertion (RFC 7521 4.2)")
            return self._by_assertion(assertion)
        secret = form.get("client_secret", "")
        if basic:
            user, secret = _form_encoded_pair(request.authorization)
            if named not in ("", user):
                raise TokenRequestRefused("invalid_request", cause="client_id is not the user of the Basic header")
            named = user
        if not named or not secret:
            raise ClientUnproven("neither an assertion nor a client id with its secret")
        return self._by_secret(named, secret), "key", ""

    def _by_assertion(self, assertion: ClientAssertion) -> tuple[_Client, str, str]:
        client, now = self._named(assertion.client_id), self._clock.now()
        expires = assertion.verify(client.keys, is_ours=self._is_ours, now=now)
        # The bank's own sample always uses the same jti: refusing would stop clients that the bank serves.
        again = assertion.jti and self._seen.before(assertion.client_id, assertion.jti, until=expires, now=now)
        return client, "assertion", "warning: the assertion's jti has been used before" if again else ""

    def _by_secret(self, client_id: str, secret: str) -> _Client:
        if client_id not in self._clients:
            self._refuse_key_as_id(client_id, secret)
        client = self._named(client_id)
        if not client.has(secret):
            raise ClientUnproven(f"the client secret is none of the keys of caller {client.name}")
        return client

    def _refuse_key_as_id(self, client_id: str, secret: str) -> None:
        """Raise ClientUnproven if *client_id* is a key, which the record must not quote as it quotes an unknown id.

        A key that was not encoded as it should be is known by its *secret*, which then is a client id.
        """
        for known, client in self._clients.items():
            if secret == known or client.has(client_id):
                raise ClientUnproven(f"the client id is the key of caller {client.name}: were id and secret swapped?")

    def _named(self, client_id: str) -> _Client:
        client = self._clients.get(client_id)
        if client is None:
            raise ClientUnproven(f"no caller has the facade_client_id {printable(client_id)}")
        return client

    def _is_ours(self, audience: str) -> bool:
        """Return whether an assertion's *audience* is ours: listed, or the configured URL of the facade.

        The Host header proves nothing: the sender could put another server's name there, and use an assertion that was
        made for that server.
        """
        if audience in self._audiences:
            return True
        named = _url_parts(audience)
        if named is None or named.address in self._bank:
            return False
        host, port = named.address
        # The bank accepts `aud` with and without a final slash, and clients use both.
        at_home = host in self._hosts and (not self._port or port in {self._port, named.default_port})
        return at_home and named.path.rstrip("/") in self._endings

    def __repr__(self) -> str:
        return f"<Facade of {len(self._clients)} clients at {', '.join(sorted(self.paths))}>"


class _SeenIds:
    """The ids of used assertions, by client, until they expire; the oldest are dropped first."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def before(self, client_id: str, jti: str, *, until: float, now: float) -> bool:
        """Return whether *jti* was used before *now*, and store it until *until*, epoch seconds."""
        key = hashlib.sha256(f"{client_id}\0{jti}".encode("utf-8", "surrogatepass")).digest()
        used = self._until.pop(key, now) > now
        if len(self._until) >= _MOST_IDS:
            self._until = {known: end for known, end in self._until.items() if end > now}
            if len(self._until) >= _MOST_IDS:
                del self._until[next(iter(self._until))]
        self._until[key] = until
        return used


def _client(values: CallerValues) -> _Client:
    return _Client(
        name=values.name,
        keys=tuple(RsaKey(int(modulus, 16), exponent) for modulus, exponent in values.assertion_keys),
        secrets_sha256=values.api_key_sha256,
    )


def _url_parts(url: str) -> _UrlParts | None:
    """Return address and path of an http or https *url*, or None."""
    try:
        parts = urlsplit(url)
        default = _PORTS[parts.scheme]
        port = parts.port or default
    except (ValueError, KeyError):
        return None
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        return None
    return _UrlParts(address=(parts.hostname, port), default_port=default, path=parts.path)


def _form_encoded_pair(authorization: bytes) -> tuple[str, str]:
    """Return client id and secret of a Basic header, each of them form-encoded (RFC 6749 2.3.1)."""
    pair = basic_pair(authorization)
    if pair is None:
        raise ClientUnproven("the Basic header can't be read")
    try:
        user, secret = (unquote_to_bytes(part.replace(b"+", b" ")).decode() for part in pair)
    except UnicodeDecodeError:
        raise ClientUnproven("the Basic header is not UTF-8") from None
    return user, secret
