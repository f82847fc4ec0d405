"""What the keeper says of certificates that will soon expire."""

from pathlib import Path

from proxy.events import CertificateExpires, Event
from proxy.keeper.certificate_expiry import CertificateExpiry
from proxy.telemetry.status import CertificateStatus
from tests.cli.serving import make_pair, serving, site
from tests.keeper.support import get
from tests.support.clock import ManualClock

DAY = 86400


def test_each_step_is_said_once() -> None:
    """And a renewed certificate from the start."""
    clock = ManualClock()
    seen: list[Event] = []
    status = CertificateStatus(name="login", use="credential", subject="CN=me", expires=clock.now() + 31 * DAY)
    certificates = [status]
    expiry = CertificateExpiry(lambda: certificates, clock=clock, observe=seen.append)
    for _ in range(32 * 24):
        expiry.look()
        clock.set_wall(clock.now() + 3600)

    words = [event.words for event in seen if isinstance(event, CertificateExpires)]
    assert words == [
        *("expires in 30 days", "expires in 14 days", "expires in 7 days", "expires in 1 day", "has expired"),
    ]
    certificates[0] = CertificateStatus(name="login", use="credential", subject="CN=me", expires=clock.now() + DAY)
    expiry.look()
    assert len(seen) == 6
    assert certificates[0].at(clock.now()).warning == "expires in 1 day"
    assert certificates[0].at(clock.now() - 30 * DAY).warning == ""


async def test_log_status_and_metric_say_it(tmp_path: Path) -> None:
    """A certificate that ends in 13 days, of a running instance."""
    async with site(tmp_path) as place:
        place.register(make_pair(tmp_path, age=(365 - 14) * DAY + 3600.0))
        async with serving(place):
            status = await place.ready()
            line = await place.logged("certificate of login")
            metrics = (await get(place.admin_socket, "/metrics")).body.decode()

    assert "certificate of login (credential) expires in 13 days, at 20" in line
    assert line.rstrip().endswith("`payproxy keys renew login`")
    assert [one["warning"] for one in status["certificates"]] == ["expires in 13 days"]
    assert 'payproxy_certificate_expiry_timestamp_seconds{name="login",use="credential"}' in metrics
