"""Says in the log, once for each step, that a certificate in use will soon expire."""

from collections.abc import Callable, Iterable

from proxy.clock import Clock
from proxy.events import CertificateExpires, Observer
from proxy.telemetry.expiry import expiry_step, expiry_words
from proxy.telemetry.status import CertificateStatus

_LOOK_SECONDS = 3600.0


class CertificateExpiry:
    """Looks at what *certificates* returns, every hour and whenever `look` is called."""

    def __init__(
        self, certificates: Callable[[], Iterable[CertificateStatus]], *, clock: Clock, observe: Observer
    ) -> None:
        self._certificates = certificates
        self._clock = clock
        self._observe = observe
        self._said: dict[tuple[str, str, float], int] = {}

    async def run(self) -> None:
        """Look every hour, until cancelled."""
        while True:
            self.look()
            await self._clock.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Say each step that has been reached since the last look."""
        now = self._clock.now()
        for one in self._certificates():
            step = expiry_step(one.expires, now=now)
            key = (one.name, one.use, one.expires)
            if step is None or self._said.get(key) == step:
                continue
            self._said[key] = step
            words = expiry_words(one.expires, now=now)
            self._observe(CertificateExpires(name=one.name, use=one.use, expires=one.expires, words=words))
