"""Who signs."""

import asyncio
import threading

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.credentials.assertion import client_assertion_input
from proxy.credentials.signer import FileSigner, signed

KEY = rsa.generate_private_key(65537, 2048)


async def test_another_library_accepts_the_signature() -> None:
    """A complete assertion passes PyJWT's checks, and prints as nothing."""
    data = client_assertion_input(
        client_id="me", audience="https://a", key_id="K", lifetime=60, now=1_800_000_000, jti="J"
    )
    assertion = await signed(FileSigner(KEY), data)

    claims = jwt.decode(
        assertion.reveal(),
        KEY.public_key(),
        algorithms=["RS256"],
        audience="https://a",
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert claims["iss"] == "me"
    assert str(assertion) == "***"
    assert not set(assertion.reveal()) & set(" \n\r\t=")


async def test_signing_happens_in_a_thread() -> None:
    """The loop goes on meanwhile: the key is never used in the loop's own thread."""
    used: list[int] = []

    class Watched:
        """An RSA key that notes who uses it."""

        key_size = 2048

        def sign(self, *_: object) -> bytes:
            """Note the thread."""
            used.append(threading.get_ident())
            return b"signature"

    signature = await FileSigner(Watched()).sign(b"input")  # type: ignore[arg-type]

    assert signature == b"signature"
    assert used
    assert threading.get_ident() not in used


async def test_many_may_sign_at_once() -> None:
    """The signer keeps no state between two signatures."""
    signer = FileSigner(KEY)
    signatures = await asyncio.gather(*(signer.sign(b"a" if n % 2 else b"b") for n in range(20)))

    assert len(set(signatures)) == 2


def test_repr_says_the_size_only() -> None:
    """Nothing of the key is shown."""
    assert repr(FileSigner(KEY)) == "<FileSigner RSA 2048>"
