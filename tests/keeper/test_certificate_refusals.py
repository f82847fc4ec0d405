import math

from proxy.events import CallerCertificatesRefused, Event
from proxy.keeper.certificate_refusals import PAUSE_SECONDS, CertificateRefusals
from proxy.link.counts import CertificateCount
from tests.support.clock import ManualClock


async def test_the_first_is_told_at_once_and_the_others_each_minute() -> None:
    """Also if the last of them came long before the minute was over: workers report each second."""
    told: list[Event] = []
    clock = ManualClock()
    refusals = CertificateRefusals(clock=clock, observe=told.append)
    refusals.add([])
    assert not told

    refusals.add([CertificateCount("expired", 2.0)])
    assert told == [CallerCertificatesRefused(counts={"expired": 2})]
    for _ in range(3):
        refusals.add([CertificateCount("missing", 1.0), CertificateCount("expired", 1.0)])
    await clock.advance(PAUSE_SECONDS - 1)
    refusals.add([])
    assert len(told) == 1
    await clock.advance(1)
    refusals.add([])
    assert told[1:] == [CallerCertificatesRefused(counts={"missing": 3, "expired": 3})]
    await clock.advance(PAUSE_SECONDS)
    refusals.add([])
    assert len(told) == 2


def test_what_a_worker_invents_is_not_told() -> None:
    """One that was taken over."""
    told: list[Event] = []
    refusals = CertificateRefusals(clock=ManualClock(), observe=told.append)
    refusals.add([CertificateCount("expired", amount) for amount in (math.nan, math.inf, -1.0, 0.0, 1e300)])
    refusals.add([CertificateCount("\x1b[2J", 1.0)])

    assert not told
