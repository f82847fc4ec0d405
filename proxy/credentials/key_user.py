"""Signs with a private key off the event loop: in a thread, or in the one thread of a key that is in a device."""

import asyncio
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.credentials.remote_key import RemoteKey

# A signature takes well below a second; a device that hangs must not delay the stop.
_CLOSE_SECONDS = 3.0


class KeyUser:
    """What uses one RSA *key*: a key in memory, or a RemoteKey in a device."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key

    async def close(self) -> None:
        """Release the device, if there is one, after a signature that is being made; the next one opens it again.

        A signature that takes longer than a moment is ended: this returns after 6 s at the latest.
        """
        if not isinstance(self._key, RemoteKey):
            return
        closing = asyncio.ensure_future(self._run(self._key.close))
        try:
            await asyncio.wait([closing], timeout=_CLOSE_SECONDS)
        finally:  # cancelled, too: somebody presses Ctrl-C again
            if not closing.done():
                self._key.abort()
        await asyncio.wait([closing], timeout=_CLOSE_SECONDS)

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        executor = self._key.executor if isinstance(self._key, RemoteKey) else None
        return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)

    def __repr__(self) -> str:
        about = self._key if isinstance(self._key, RemoteKey) else f"RSA {self._key.key_size}"
        return f"<{type(self).__name__} {about}>"
