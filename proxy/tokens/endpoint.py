"""The call to a token endpoint: one POST, sent once, limited in time and size."""

import asyncio
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import quote_plus

import aiohttp
from yarl import URL

from proxy.clock import Clock
from proxy.credentials.client_assertion import client_assertion_claims
from proxy.credentials.credential import PRIVATE_KEY_JWT, Credential, CredentialUnusable
from proxy.credentials.grant import token_request
from proxy.credentials.keys import KeyUnusable
from proxy.credentials.remote_key import PinRefused
from proxy.entropy import Entropy, uuid4
from proxy.errors import TokenUnavailable
from proxy.events import ClockSkewMeasured, Observer
from proxy.tokens.response import (
    MAX_BODY_BYTES,
    Minted,
    MintRefused,
    json_object,
    parse_token_response,
    printable,
)
from proxy.upstream.tls import TlsUnusable, client_context

# Date has whole seconds, and the answer took some time: a smaller difference may be no skew.
IGNORED_SKEW_SECONDS = 2.0

# A larger clock difference is a fault to fix, not to correct.
MAX_CORRECTION_SECONDS = 600.0

_UNREACHABLE = "can't be reached"
_BROKEN = "gave no complete answer"

# The first matching class counts: what happened (for callers), and why (for the operator).
_TROUBLES: tuple[tuple[type[Exception], str, str], ...] = (
    (aiohttp.ClientHttpProxyError, _UNREACHABLE, "the egress proxy refused CONNECT"),
    (aiohttp.ClientProxyConnectionError, _UNREACHABLE, "the egress proxy can't be reached"),
    (aiohttp.ClientConnectorDNSError, _UNREACHABLE, "its name can't be resolved"),
    (aiohttp.ClientConnectorCertificateError, _UNREACHABLE, "its certificate is not accepted"),
    (aiohttp.ClientSSLError, _UNREACHABLE, "no TLS connection"),
    (aiohttp.ClientConnectorError, _UNREACHABLE, "no connection"),
    (aiohttp.ServerDisconnectedError, _BROKEN, "the connection was closed without an answer"),
    (aiohttp.ClientPayloadError, _BROKEN, "the answer broke off"),
    (aiohttp.ClientResponseError, _BROKEN, "the answer is no acceptable HTTP/1.1"),
    (OSError, _BROKEN, "the connection broke"),
)


class NotSigned(TokenUnavailable):
    """The client assertion could not be signed, so the token endpoint was not asked.

    *pin_refused*: by a token that refused the PIN, which must not be tried again with the same one; *pin_clears* as in
    `PinRefused.clears`.
    """

    def __init__(self, detail: str, *, cause: str, pin_refused: bool = False, pin_clears: bool = False) -> None:
        super().__init__(detail, cause=cause)
        self.pin_refused = pin_refused
        self.pin_clears = pin_clears


class TokenEndpoint:
    """Mints tokens with one credential; create it on the running loop and close it after use.

    Raises CredentialUnusable if CA or client certificate files can't be used.
    """

    def __init__(self, credential: Credential, *, clock: Clock, entropy: Entropy, observe: Observer) -> None:
        self._credential = credential
        self._clock = clock
        self._entropy = entropy
        self._observe = observe
        self._correction = 0.0
        self._session = aiohttp.ClientSession(
            # A pooled connection may be dead or hold someone else's answer; mints are rare, so connect anew.
            connector=aiohttp.TCPConnector(ssl=_tls_context(credential), force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # The request asks for identity; an answer that is compressed anyway is not inflated without limit.
            auto_decompress=False,
            # mint() has a timeout for everything, the signature included.
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def mint(self, *, audience: str, scope: str) -> Minted:
        """Return a new token for *audience* and *scope* within the credential's timeout.

        If a refusal shows a clock skew that was not known, one new assertion is sent at once; nothing else is sent
        twice. Raises TokenRefused or TokenUnavailable.
        """
        try:
            async with asyncio.timeout(self._credential.timeout):
                return await self._mint(audience, scope)
        except TimeoutError:
            pass
        raise self._unavailable("did not answer in time", f"no complete answer within {self._credential.timeout:g} s")

    async def close(self) -> None:
        """Close all connections, and the device of the key, if there is one."""
        await self._session.close()
        if self._credential.signer is not None:
            await self._credential.signer.close()

    async def _mint(self, audience: str, scope: str) -> Minted:
        assumed = self._correction
        try:
            return await self._attempt(audience, scope)
        except MintRefused:
            learned = abs(self._correction - assumed) > IGNORED_SKEW_SECONDS
            if self._credential.auth_method != PRIVATE_KEY_JWT or not learned:
                raise
        return await self._attempt(audience, scope)

    async def _attempt(self, audience: str, scope: str) -> Minted:
        assertion = await self._assertion()
        headers, form = token_request(self._credential, audience=audience, scope=scope, assertion=assertion)
        started, started_wall = self._clock.monotonic(), self._clock.now()
        status, answer_headers, body = await self._post(headers, form)
        took = self._clock.monotonic() - started
        skew = 0.0
        # An intermediate proxy's error page has that proxy's time, so only a JSON answer counts.
        if json_object(answer_headers, body) is not None:
            skew = self._measure(answer_headers.get("date", ""), midpoint=started_wall + took / 2, took=took)
        try:
            return parse_token_response(
                status,
                answer_headers,
                body,
                credential=self._credential.name,
                default_lifetime=self._credential.default_lifetime,
                now=self._clock.now() + self._correction,
                hide=(assertion, *self._secret_spellings(headers)),
            )
        except MintRefused as refused:
            if abs(skew) <= IGNORED_SKEW_SECONDS or self._credential.auth_method != PRIVATE_KEY_JWT:
                raise
            cause = f"{refused.cause} ({_clock_words(skew)})"
            raise MintRefused(refused.detail, error=refused.error, cause=cause) from None

    def _secret_spellings(self, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Return the client secret in the forms that an endpoint may echo: plain, form-encoded, Basic."""
        secret = self._credential.client_secret.reveal() if self._credential.client_secret else ""
        return headers.get("Authorization", "").removeprefix("Basic "), secret, quote_plus(secret)

    async def _assertion(self) -> str:
        """Return a new client assertion, never one that was sent before; "" if the method needs none."""
        credential = self._credential
        if credential.signer is None:
            return ""
        claims = client_assertion_claims(
            client_id=credential.client_id,
            audience=credential.assertion_audience,
            lifetime=credential.assertion_lifetime,
            now=self._clock.now() + self._correction,
            jti=uuid4(self._entropy),
        )
        try:
            return (await credential.signer.sign(claims, key_id=credential.key_id)).reveal()
        except KeyUnusable as error:
            cause, refused = str(error), isinstance(error, PinRefused)
            clears = isinstance(error, PinRefused) and error.clears
        detail = f"The key of credential {credential.name} can't sign: no token was requested."
        raise NotSigned(detail, cause=cause, pin_refused=refused, pin_clears=clears)

    async def _post(self, headers: Mapping[str, str], form: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (names in lower case) and the body up to one byte beyond the limit."""
        try:
            async with self._session.post(
                URL(self._credential.token_url, encoded=True),
                data=form,
                headers=headers,
                allow_redirects=False,
                proxy=self._credential.egress_proxy or None,
            ) as response:
                body = bytearray()
                while len(body) <= MAX_BODY_BYTES and (piece := await response.content.readany()):
                    body += piece
                names = {name.lower(): value for name, value in response.headers.items()}
                return response.status, names, bytes(body[: MAX_BODY_BYTES + 1])
        except (aiohttp.ClientError, OSError, ValueError) as error:
            happened, cause = _explained(error)
        # Raised outside the except block: aiohttp's exceptions carry the request's headers and would be the context.
        raise self._unavailable(happened, cause)

    def _measure(self, date: str, *, midpoint: float, took: float) -> float:
        """Measure the clock skew in seconds by a Date header (RFC 9110 6.6.1); positive if our clock is behind."""
        try:
            skew = parsedate_to_datetime(date).timestamp() - midpoint
        except (ValueError, TypeError, OverflowError):
            return 0.0
        self._observe(ClockSkewMeasured(credential=self._credential.name, seconds=skew))
        # The header may have been written at the start or the end of the call.
        certain = abs(skew) > IGNORED_SKEW_SECONDS + took / 2
        self._correction = min(max(skew, -MAX_CORRECTION_SECONDS), MAX_CORRECTION_SECONDS) if certain else 0.0
        return skew if certain else 0.0

    def _unavailable(self, happened: str, cause: str) -> TokenUnavailable:
        return TokenUnavailable(f"The token endpoint of credential {self._credential.name} {happened}.", cause=cause)

    def __repr__(self) -> str:
        return f"<TokenEndpoint {self._credential!r}>"


def _tls_context(credential: Credential) -> ssl.SSLContext:
    try:
        return client_context(
            ca_file=credential.ca_file,
            certificate_file=credential.client_certificate_file,
            key_file=credential.client_key_file,
        )
    except TlsUnusable as error:
        raise CredentialUnusable(f"credential {credential.name}: {error}") from None


def _clock_words(skew: float) -> str:
    side = "behind" if skew > 0 else "ahead of"
    words = f"this machine's clock is {abs(skew):.0f} s {side} the token endpoint's"
    if abs(skew) > MAX_CORRECTION_SECONDS:
        return f"{words}, too far to correct in assertions: set the clock"
    return f"{words}, which assertions are corrected for"


def _explained(error: Exception) -> tuple[str, str]:
    """Return what happened, for callers, and why, for the operator; quote nothing of request or answer."""
    happened, words = next(
        ((happened, words) for kind, happened, words in _TROUBLES if isinstance(error, kind)),
        (_BROKEN, type(error).__name__),
    )
    reason = _reason(error)
    return happened, f"{words}: {reason}" if reason else words


def _reason(error: Exception) -> str:
    """Return the operating system's or OpenSSL's reason, which quotes no input; "" if there is none."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"status {error.status}"
        case aiohttp.ClientConnectorCertificateError():
            return _reason(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return _reason(error.os_error)
        case ssl.SSLCertVerificationError():
            return printable(error.verify_message)
        case OSError():
            return printable(getattr(error, "reason", None) or error.strerror or "")
        case _:
            return ""
