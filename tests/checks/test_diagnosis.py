from dataclasses import replace
from typing import Any

import pytest

from proxy.checks.diagnosis import Refusal, RefusalKind, clock_off, diagnose
from proxy.checks.likely_causes import Evidence
from proxy.settings.credential import CredentialSection
from proxy.settings.findings import Severity
from proxy.settings.models import validated
from tests.checks.support import NOW, Identity

MSIS = "400 invalid_client: MSIS%s: Client authentication failed."


def section(flavor: str = "jwt", **changes: Any) -> CredentialSection:
    """Return a credential's section."""
    url = {} if flavor == "jwt" else {"token_url": "https://idag2.jpmorganchase.com/adfs/oauth2/token"}
    return validated(CredentialSection, {"flavor": flavor, "client_id": "client", **url, **changes})


def evidence(flavor: str = "jwt", *, skew: float | None = 0.0, **changes: Any) -> Evidence:
    """Return evidence without a certificate."""
    return Evidence(name="login", section=section(flavor, **changes), now=NOW, skew=skew)


@pytest.mark.parametrize(
    ("error", "cause", "kind"),
    [
        ("invalid_client", MSIS % "9607", RefusalKind.CLIENT_ID),
        ("invalid_client", MSIS % "9622", RefusalKind.PROOF),
        ("invalid_grant", "400 invalid_grant: no", RefusalKind.PROOF),
        ("invalid_client", "401 invalid_client", RefusalKind.PROOF),
        ("invalid_resource", "400 invalid_resource: MSIS9602: no", RefusalKind.AUDIENCE),
        ("invalid_target", "400 invalid_target", RefusalKind.AUDIENCE),
        ("invalid_scope", "400 invalid_scope", RefusalKind.SCOPE),
        ("unauthorized_client", "403 unauthorized_client: MSIS9321: no", RefusalKind.ENTITLEMENT),
        ("", "401, an empty body", RefusalKind.ENTITLEMENT),
        ("", "403, no error code", RefusalKind.ENTITLEMENT),
        ("", "403, text/html instead of JSON; did a proxy in between answer?", RefusalKind.INTERMEDIARY),
        ("", "200, but text/html instead of JSON; did a proxy in between answer?", RefusalKind.INTERMEDIARY),
        ("", "302: redirects are not followed, a secret must not go to another host", RefusalKind.INTERMEDIARY),
        ("", "404, an empty body", RefusalKind.ADDRESS),
        ("", "405, an empty body", RefusalKind.ADDRESS),
        ("invalid_request", "400 invalid_request: audience is missing", RefusalKind.REQUEST),
        ("", "429, an empty body", RefusalKind.BUSY),
        ("", "503, an empty body", RefusalKind.OUTAGE),
        ("", "200, but access_token is missing, empty or no string", RefusalKind.MALFORMED),
        ("", "no complete answer within 10 s", RefusalKind.SLOW),
        ("", "the connection was closed without an answer", RefusalKind.OUTAGE),
    ],
)
def test_what_an_answer_is_about(error: str, cause: str, kind: RefusalKind) -> None:
    """Microsoft's numbers come first, then the RFC's words, then the status; a page is never the endpoint's."""
    refusal = Refusal(error=error, cause=cause)
    assert refusal.kind is kind
    complaint = diagnose(refusal, evidence())
    assert kind.value in complaint.what
    assert complaint.fix
    assert complaint.severity is Severity.ERROR


def test_order_without_any_evidence(mine: Identity) -> None:
    """What the configuration excludes is not named: kid, aud, key, clock and expiry are seen to be right."""
    refusal = Refusal(error="invalid_client", cause="401 invalid_client", audience="a")
    complaint = diagnose(refusal, replace(evidence(), certificate=mine.certificate))
    assert complaint.what.startswith("no token for a: ")
    assert complaint.what.index("1. the bank does not know client_id") < complaint.what.index("2. this certificate")
    assert "3." not in complaint.what
    adfs = diagnose(replace(refusal, cause=MSIS % "9622"), replace(evidence("adfs"), certificate=mine.certificate))
    assert adfs.what.partition("likely: ")[2].startswith("this certificate")


def test_a_certificate_never_uploaded(mine: Identity) -> None:
    """With a client id as the bank's page shows it, the upload comes first, and how it is done."""
    found = replace(evidence(client_id="5d2f8c1e-0b7a-4c7e-9a3d-3f6f5a1c9b10"), certificate=mine.certificate)
    complaint = diagnose(Refusal(error="invalid_client", cause="401 invalid_client"), found)

    assert complaint.key == ("credentials", "login", "certificate_file")
    assert "1. this certificate (thumbprint " in complaint.what
    assert "was not uploaded" in complaint.what
    assert "upload the certificate there with the use OAUTH" in complaint.fix


def test_the_confirmed_come_first_in_order_of_likelihood(mine: Identity) -> None:
    """Several confirmed causes keep the order kid, aud; the merely possible follow."""
    found = replace(
        evidence(key_id="ab:cd", assertion_audience="https://other/", client_certificate_file="/c"),
        certificate=mine.certificate,
    )
    text = diagnose(Refusal(error="invalid_client", cause="401 invalid_client"), found).what
    assert text.index("1. key_id") < text.index("2. assertion_audience") < text.index("3. the bank does not know")
    assert text.count("the configuration confirms it") == 2


def test_a_slash_at_the_end_confirms_nothing(mine: Identity) -> None:
    """The bank is known to take the aud with and without it, so it comes first only for want of better."""
    url = "https://login.jpmorgan.com/oauth2/token/"
    found = replace(evidence(assertion_audience=url), certificate=mine.certificate)
    text = diagnose(Refusal(error="invalid_client", cause="401 invalid_client"), found).what
    assert "by the slash at its end" in text
    assert "confirms" not in text


@pytest.mark.parametrize(
    ("key_id", "confirmed"),
    [("AB" * 20, False), ("ab" * 20, True), (":".join(["AB"] * 20), True), ("q83vq83vq83vq83vq83vq83vq80", True)],
)
def test_a_kid_without_a_certificate_is_judged_by_its_form(key_id: str, *, confirmed: bool) -> None:
    """Forty capital hexadecimal digits are usual; all else is confirmed to be unusual."""
    text = diagnose(Refusal(error="invalid_client", cause="401 invalid_client"), evidence(key_id=key_id)).what
    assert ("key_id is" in text and "confirms" in text) == confirmed


@pytest.mark.parametrize("padded", [True, False])
def test_a_secret(*, padded: bool) -> None:
    """White space around a secret is confirmed, and never shows the secret."""
    found = replace(evidence("basic"), secret_doubt=("has white space around it", "write it alone") if padded else None)
    complaint = diagnose(Refusal(error="invalid_client", cause="401 invalid_client", scope="s"), found)
    assert complaint.key == ("credentials", "login", "client_secret_file")
    assert ("confirms" in complaint.what) == padded


def test_a_tls_client() -> None:
    """tls_client_auth has its certificate as first suspect."""
    found = evidence(auth_method="tls_client_auth", client_certificate_file="/c", client_key_file="/k")
    complaint = diagnose(Refusal(error="invalid_client", cause="401 invalid_client"), found)
    assert complaint.key == ("credentials", "login", "client_certificate_file")


@pytest.mark.parametrize("scope", ["", "other"])
def test_a_scope(scope: str) -> None:
    """The rule's scope is named, or that it has none."""
    complaint = diagnose(
        Refusal(error="invalid_scope", cause="400 invalid_scope", scope=scope, required_by=("routes", 2)), evidence()
    )
    assert complaint.key == ("routes", 2, "scope")


def test_a_route_without_an_audience() -> None:
    """invalid_request with no audience in the rule is confirmed by the rule."""
    refusal = Refusal(
        error="invalid_request", cause="400 invalid_request: audience is missing", required_by=("routes", 1)
    )
    complaint = diagnose(refusal, evidence())
    assert complaint.key == ("routes", 1, "audience")
    assert "confirms" in complaint.what
    assert "extra_parameters" in diagnose(replace(refusal, audience="a"), evidence(extra_parameters={"a": "b"})).what


def test_the_field_of_the_audience() -> None:
    """A resource sent as audience to ADFS is seen in the settings."""
    refusal = Refusal(error="invalid_resource", cause="400 invalid_resource: MSIS9602", audience="JPMC:URI:RS-1")
    complaint = diagnose(refusal, evidence("adfs", audience_parameter="audience"))
    assert complaint.key == ("credentials", "login", "audience_parameter")


@pytest.mark.parametrize(
    ("skew", "said"),
    [(None, ""), (0.04, ""), (5.0, ""), (-45.2, "45 s ahead of"), (600, "10 min behind")],
)
def test_a_clock(skew: float | None, said: str) -> None:
    """Up to 5 s nothing is said; beyond, how far and which way."""
    complaint = clock_off("login", skew)
    assert (complaint is not None) == bool(said)
    assert said in (complaint.what if complaint else "")


def test_an_unknown_clock_is_a_suspect_like_others(mine: Identity) -> None:
    """Without a Date nothing is known of the clock, so it is named, unconfirmed."""
    found = replace(evidence(skew=None), certificate=mine.certificate)
    text = diagnose(Refusal(error="invalid_client", cause="401 invalid_client"), found).what
    assert "the answer did not have the endpoint's time" in text
    assert "confirms" not in text
