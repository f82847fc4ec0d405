"""The wrong turns of a newcomer, each refused by the simulator and told apart by what the configuration shows."""

import pytest

from proxy.credentials.keys import load_certificate, thumbprint
from proxy.settings.findings import Severity
from proxy.simulator.clients import ADFS_CLIENT_ID, JWT_CLIENT_ID
from tests.checks.asking import asked, blamed
from tests.cli.serving import Site, make_pair
from tests.simulator.support import identity
from tests.support.ports import lasting_port


async def test_nothing_is_wrong(place: Site) -> None:
    """A right configuration has no finding; the notes tell of way, clock and token, never the token."""
    found = await asked(place, call_too=True)

    assert found.findings == []
    text = "\n".join(found.notes)
    for words in [
        "login: 127.0.0.1:",
        "bank: 127.0.0.1:",
        "token minted, valid for 28800 s",
        "clock is",
        "payments: 200",
    ]:
        assert words in text
    assert place.bank.world.mint_count() == 1
    [called] = place.bank.world.seen("/payment")
    assert called.token_fingerprint in text


@pytest.mark.parametrize("spelling", ["colons", "lower case", "x5t", "sha256-hex"])
async def test_kid_form(place: Site, spelling: str) -> None:
    """A kid of our own certificate in another form or spelling is confirmed by comparing the two."""
    certificate = load_certificate(place.folder / "oauth.crt")
    usual = thumbprint(certificate, "sha1-hex")
    match spelling:
        case "colons":
            kid = ":".join(usual[at : at + 2] for at in range(0, 40, 2))
        case "lower case":
            kid = usual.lower()
        case form:
            kid = thumbprint(certificate, form)
    place.write(credential=f'key_id = "{kid}"')

    key, text = await blamed(place)

    assert key == "credentials.login.key_id"
    assert "1. key_id is" in text
    assert "the configuration confirms it" in text
    assert "remove key_id" in text


async def test_kid_format(place: Site) -> None:
    """A computed kid of an unusual form is seen too."""
    place.write(credential='key_id_format = "x5t#S256"')
    key, text = await blamed(place)
    assert key == "credentials.login.key_id_format"
    assert "confirms" in text


async def test_kid_of_another_certificate(place: Site) -> None:
    """A kid that is no thumbprint of ours names another certificate."""
    place.write(credential=f'key_id = "{"AB" * 20}"')
    key, text = await blamed(place)
    assert key == "credentials.login.key_id"
    assert "names another certificate" in text


async def test_assertion_audience(place: Site) -> None:
    """An aud that is not the token URL is confirmed."""
    place.write(credential='assertion_audience = "https://login.jpmorgan.com/oauth2/token"')
    key, text = await blamed(place)
    assert key == "credentials.login.assertion_audience"
    assert "confirms" in text


async def test_key_of_another_certificate(place: Site) -> None:
    """Files that don't belong together are the offline check's finding, and nothing is sent with them."""
    make_pair(place.folder, "other")
    (place.folder / "other.crt").rename(place.folder / "oauth.crt")

    found = await asked(place)

    assert found.findings == []
    assert "login: nothing was sent, its files can't be used" in found.notes
    assert place.bank.world.seen("/oauth2") + place.bank.world.seen("/adfs") == []


async def test_key_of_another_certificate_without_the_certificate(place: Site) -> None:
    """With nothing but a kid nobody here can tell, so the key is the first suspect and the fix makes it provable."""
    kid = thumbprint(load_certificate(place.folder / "oauth.crt"), "sha1-hex")
    make_pair(place.folder, "other")
    place.write(key="other", credential=f'key_id = "{kid}"')
    place.config.write_text(place.config.read_text().replace('certificate_file = "other.crt"\n', ""))

    key, text = await blamed(place)

    assert key == "credentials.login.private_key_file"
    assert "set certificate_file" in text


async def test_unregistered_certificate(place: Site) -> None:
    """With all that can be seen from here in order, another registered certificate is named, with our thumbprint."""
    make_pair(place.folder, "fresh")
    place.write(key="fresh")
    _, text = await blamed(place)
    assert thumbprint(load_certificate(place.folder / "fresh.crt"), "sha1-hex") in text
    assert "was not uploaded for this client" in text
    assert "confirms" not in text


async def test_expired_certificate(place: Site) -> None:
    """A certificate that has ended is confirmed as the cause."""
    ended = identity(days=-1)
    (place.folder / "oauth.key").write_bytes(ended.key_pem)
    (place.folder / "oauth.crt").write_bytes(ended.pem)
    place.register(ended.pem)

    key, text = await blamed(place)

    assert key == "credentials.login.certificate_file"
    assert "1. the certificate expired on" in text


@pytest.mark.parametrize("offset", [0.04, -0.04, 2.0, -2.0])
async def test_a_clock_that_is_right_enough(place: Site, offset: float) -> None:
    """40 ms and 2 s are no finding: Date has whole seconds and the assertion is backdated."""
    place.bank.world.clock_offset = offset
    found = await asked(place)
    assert found.findings == []


@pytest.mark.parametrize("offset", [45.0, -45.0, 600.0, -600.0])
async def test_a_clock_that_is_off_and_corrected(place: Site, offset: float) -> None:
    """45 s and 10 min are a warning that says how far and which way; the token is had all the same."""
    place.bank.world.clock_offset = offset

    found = await asked(place)

    [finding] = found.findings
    assert finding.severity is Severity.WARNING
    assert ("behind" if offset > 0 else "ahead of") in finding.what
    assert ("10 min" if abs(offset) == 600 else "45 s") in finding.what.replace("44 s", "45 s").replace("46 s", "45 s")
    assert "NTP" in finding.fix
    assert place.bank.world.mint_count() == 1


@pytest.mark.parametrize("offset", [900.0, -900.0])
async def test_a_clock_beyond_correction(place: Site, offset: float) -> None:
    """15 min are too far, and the clock is the confirmed first suspect."""
    if place.flavor == "adfs" and offset < 0:
        offset = -7200.0  # it takes an exp far ahead, but no iat in its future
    place.bank.world.clock_offset = offset
    key, text = await blamed(place)
    assert key == "credentials.login"
    assert "too far to be corrected for (the configuration confirms it)" in text


async def test_a_new_certificate_and_a_clock_that_is_ahead(place: Site) -> None:
    """By the bank's clock the certificate is not valid yet: the clock is the cause, the certificate is good."""
    place.register(make_pair(place.folder, age=0))
    place.bank.world.clock_offset = -590.0
    key, text = await blamed(place)
    assert key == "credentials.login"
    assert "by which the certificate is not valid yet or no longer (the configuration confirms it)" in text


async def test_egress_proxy_down(place: Site) -> None:
    """The egress proxy is named, not the bank."""
    place.write(credential=f'egress_proxy = "http://127.0.0.1:{lasting_port()}"')
    key, text = await blamed(place)
    assert key == "credentials.login.egress_proxy"
    assert "can't be reached (connection refused)" in text


async def test_wrong_client_id(place: Site) -> None:
    """ADFS says so itself; where the modern endpoint is silent, the advice leads to the page that has id and upload."""
    wrong = "9" + JWT_CLIENT_ID[1:] if place.flavor == "jwt" else ADFS_CLIENT_ID.replace("0", "1")
    place.write(client_id=wrong)

    key, text = await blamed(place)

    assert key == "credentials.login." + ("client_id" if place.flavor == "adfs" else "certificate_file")
    assert "client id" in text
    assert "the bank does not know client_id" in text


async def test_client_id_of_the_other_flavor(place: Site) -> None:
    """Its very shape confirms a client id of the other endpoint."""
    place.write(client_id=ADFS_CLIENT_ID if place.flavor == "jwt" else JWT_CLIENT_ID)
    key, text = await blamed(place)
    assert key == "credentials.login.client_id"
    assert "confirms" in text


async def test_wrong_audience(place: Site) -> None:
    """The route's audience is named, by the rule's name."""
    place.write(audience="jpm:uri:prod:paiments" if place.flavor == "jwt" else "JPMC:URI:RS-1-Nothing-PROD")
    key, text = await blamed(place)
    assert key == "routes.payments.audience"
    assert "does not accept the audience" in text


async def test_audience_of_the_other_flavor(place: Site) -> None:
    """Its very shape confirms an audience of the other endpoint."""
    place.write(audience="JPMC:URI:RS-1-Nothing-PROD" if place.flavor == "jwt" else "jpm:uri:prod:payments")
    key, text = await blamed(place)
    assert key == "routes.payments.audience"
    assert "confirms" in text
