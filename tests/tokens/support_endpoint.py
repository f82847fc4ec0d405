"""Clients of a token endpoint, Basic and with assertions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.credentials.client_assertion import AssertionSigner
from proxy.credentials.credential import Credential
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.tokens.endpoint import TokenEndpoint
from tests.support.clock import ManualClock
from tests.tokens.support import (
    Asked,
    Events,
    FixedEntropy,
    credential,
)

NOW = 1_800_000_000.0
SIGNING_KEY = rsa.generate_private_key(65537, 2048)


@asynccontextmanager
async def client(
    credential: Credential, *, events: Events | None = None, clock: ManualClock | None = None
) -> AsyncIterator[TokenEndpoint]:
    """Give a client of *credential* and close it."""
    observe = Events() if events is None else events
    endpoint = TokenEndpoint(credential, clock=clock or ManualClock(NOW), entropy=FixedEntropy(), observe=observe)
    try:
        yield endpoint
    finally:
        await endpoint.close()


async def mint(credential: Credential) -> str:
    """Mint once and return the token."""
    async with client(credential) as endpoint:
        return (await endpoint.mint(audience="jpm:uri:test", scope="")).value.reveal()


async def failure(credential: Credential) -> TokenRefused | TokenUnavailable:
    """Mint once and return why it failed."""
    try:
        await mint(credential)
    except (TokenRefused, TokenUnavailable) as error:
        return error
    raise AssertionError("a token was minted")


def asserting(url: str, **changes: object) -> Credential:
    """Return a private_key_jwt credential for *url*."""
    fields: dict[str, object] = {
        "auth_method": "private_key_jwt",
        "client_secret": None,
        "signer": AssertionSigner(SIGNING_KEY),
        "key_id": "THUMB",
        "assertion_audience": url,
    }
    return credential(url, **(fields | changes))


def claims(asked: Asked) -> dict[str, object]:
    """Return the claims of the assertion in *asked*, its signature checked by another library."""
    decoded = jwt.decode(
        asked.form["client_assertion"],
        SIGNING_KEY.public_key(),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
    )
    return dict(decoded)


def at(seconds: float) -> str:
    """Return a Date header for *seconds* after NOW."""
    return formatdate(NOW + seconds, usegmt=True)
