"""Tells at most once a minute which certificates of callers were refused: strangers can have any number refused."""

from collections import Counter
from collections.abc import Iterable

from proxy.clock import Clock
from proxy.events import CallerCertificatesRefused, Observer
from proxy.link.counts import CertificateCount
from proxy.telemetry.counters import REFUSED_CERTIFICATES

PAUSE_SECONDS = 60.0
# More than a worker can count between two reports; NaN and infinity, which one that was taken over could send, are not.
_MOST = 1e9


class CertificateRefusals:
    """Adds up what workers report, each second, and tells *observe* at once, then what has come since, each minute."""

    def __init__(self, *, clock: Clock, observe: Observer) -> None:
        self._clock = clock
        self._observe = observe
        self._untold: Counter[str] = Counter()
        self._tell_at = clock.monotonic()

    def add(self, counts: Iterable[CertificateCount]) -> None:
        """Add what a worker has counted since its last report: perhaps nothing."""
        for reason, amount in counts:
            if reason in REFUSED_CERTIFICATES and 0 < amount < _MOST:
                self._untold[reason] += int(amount)
        now = self._clock.monotonic()
        if self._untold and now >= self._tell_at:
            untold, self._untold = self._untold, Counter()
            self._tell_at = now + PAUSE_SECONDS
            self._observe(CallerCertificatesRefused(counts=dict(untold)))

    def __repr__(self) -> str:
        return f"<CertificateRefusals {self._untold.total()} not told>"
