"""A private RSA key that is elsewhere, in an HSM or with a program: the one interface is `sign`."""

from abc import abstractmethod
from concurrent.futures import Executor
from typing import Any, NoReturn, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding as paddings
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.credentials.keys import KeyUnusable


class KeyUnavailable(KeyUnusable):
    """The key can't be used now, but perhaps later: its device is away, slow or failed; the message says why."""


class PinRefused(KeyUnusable):
    """The token refused the PIN, or would lock: the same one must not be tried again, since tokens lock after a few.

    *clears*: the token shows by its flags when somebody has logged in by hand; only then the PIN is tried once more.
    """

    def __init__(self, text: str, *, clears: bool) -> None:
        super().__init__(text)
        self.clears = clears


class SigningDevice(Protocol):
    """What holds the key. Its calls block, each for a bounded time: call them in a thread, one at a time."""

    @abstractmethod
    def public_key(self) -> RSAPublicKey:
        """Return the public half; raise KeyUnusable or KeyUnavailable."""

    @abstractmethod
    def sign(self, signing_input: bytes) -> bytes:
        """Return the RS256 signature of *signing_input* (RFC 7518 3.3); raise KeyUnusable or KeyUnavailable."""

    @abstractmethod
    def sign_digest(self, digest: bytes) -> bytes:
        """Return the RS256 signature of the input with the SHA-256 *digest*; raise as `sign`."""

    @abstractmethod
    def close(self) -> None:
        """Release the device; the next call opens it again."""

    @abstractmethod
    def abort(self) -> None:
        """End the call that another thread waits in, which raises KeyUnavailable; the only one to call meanwhile."""


class RemoteKey(RSAPrivateKey):
    """The key in *device*, usable wherever cryptography and PyJWT sign with an RSA key; its numbers are not here.

    Each signature is verified before it is used: a device with another key would cost a refusal by the bank, and the
    bank's message would not say why. *executor* has the one thread in which `sign` and `close` are to be called.
    """

    def __init__(self, device: SigningDevice, *, executor: Executor, name: str) -> None:
        self._device = device
        self.executor = executor
        self._name = name

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        """Return the signature of *data*; only PKCS#1 v1.5 with SHA-256, which is RS256.

        With `Prehashed`, *data* is the digest.
        """
        hashed = isinstance(algorithm, Prehashed) and algorithm.digest_size == SHA256.digest_size
        if not isinstance(padding, paddings.PKCS1v15) or not (hashed or isinstance(algorithm, SHA256)):
            raise NotImplementedError("only RS256")
        signature = self._device.sign_digest(bytes(data)) if hashed else self._device.sign(bytes(data))
        try:
            self._device.public_key().verify(signature, bytes(data), paddings.PKCS1v15(), algorithm)
        except InvalidSignature:
            raise KeyUnusable(
                f"{self._name}: its signature is not one of the expected key; name the certificate that belongs to it"
            ) from None
        return signature

    def public_key(self) -> RSAPublicKey:
        """Return the public half."""
        return self._device.public_key()

    @property
    def key_size(self) -> int:
        """Return the bits of the modulus."""
        return self._device.public_key().key_size

    def close(self) -> None:
        """Release the device until the next signature."""
        self._device.close()

    def abort(self) -> None:
        """End the signature that is being made, from any thread."""
        self._device.abort()

    def decrypt(self, ciphertext: Any, padding: Any) -> NoReturn:
        """Refuse: the key is for signing."""
        raise NotImplementedError("the key is for signing")

    def private_numbers(self) -> NoReturn:
        """Refuse: the numbers are not here."""
        raise NotImplementedError("the key can't leave its device")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:  # noqa: A002 - cryptography's name
        """Refuse: the numbers are not here."""
        raise NotImplementedError("the key can't leave its device")

    def __copy__(self) -> "RemoteKey":
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> "RemoteKey":
        return self

    def __repr__(self) -> str:
        return f"<RemoteKey {self._name}>"
