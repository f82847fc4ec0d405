"""Causes of a refusal that the configuration can confirm or exclude; pure, no network.

Endpoints reveal little on purpose (the modern one answers every defect of an assertion with the same invalid_client),
so the order depends on what is known locally.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from proxy.credentials.inspection import recognise
from proxy.credentials.keys import thumbprint
from proxy.settings.credential import PRESETS, CredentialSection
from proxy.settings.findings import Key
from proxy.tokens.endpoint import MAX_CORRECTION_SECONDS

# The form of the bank's own samples.
_USUAL_FORM = "sha1-hex"
_USUAL_KID = re.compile(r"[0-9A-F]{40}")
_SPELLED_KID = re.compile(r"[0-9A-Fa-f]{40}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LEGACY_CLIENT = "CC-"
_LEGACY_RESOURCE = "JPMC:URI:"
_MODERN_AUDIENCE = "jpm:uri:"


@dataclass(frozen=True, slots=True)
class LikelyCause:
    """A possible cause: *key* is the setting, *what* the problem, *fix* the solution.

    *confirmed*: the configuration shows that it is one.
    """

    key: Key
    what: str
    fix: str
    confirmed: bool = False


def _certain(key: Key, what: str, fix: str) -> LikelyCause:
    return LikelyCause(key, what, fix, confirmed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a credential without asking the bank.

    *now* is epoch seconds of this machine, *skew* the endpoint's clock minus ours, None if no answer had a time.
    *secret_doubt* is a visible problem of the client secret and its solution, or None.
    """

    name: str
    section: CredentialSection
    now: float
    certificate: x509.Certificate | None = None
    skew: float | None = None
    secret_doubt: tuple[str, str] | None = None

    @property
    def moments(self) -> tuple[datetime, datetime]:
        """Return the current time by this machine's clock and by the endpoint's."""
        mine = datetime.fromtimestamp(self.now, UTC)
        return mine, mine + timedelta(seconds=self.skew or 0.0)

    def at(self, key: str) -> Key:
        """Return the full key of the credential's setting *key*."""
        return ("credentials", self.name, key)


def clock_words(skew: float) -> str:
    """Return, in words, how far this machine's clock is off."""
    amount = f"{abs(skew):.0f} s" if abs(skew) < 120 else f"{abs(skew) / 60:.0f} min"
    return f"this machine's clock is {amount} {'behind' if skew > 0 else 'ahead of'} the token endpoint's"


def key_id(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield causes in the kid: unusual form or spelling, or another certificate's thumbprint."""
    section, certificate = evidence.section, evidence.certificate
    at = evidence.at("key_id")
    fix = "write the Thumbprint of the bank's Security page as it stands there"
    if certificate is not None:
        fix = "remove key_id: the kid is then the thumbprint of certificate_file in the form that the bank uses"
    if not section.key_id:
        if section.key_id_format != _USUAL_FORM:
            what = f'key_id_format = "{section.key_id_format}" makes a kid that the bank\'s samples do not use'
            fix = f'set key_id_format = "{_USUAL_FORM}", or compare with the Thumbprint on the bank\'s Security page'
            yield _certain(evidence.at("key_id_format"), what, fix)
        return
    if certificate is not None:
        found = recognise(section.key_id, {"certificate": certificate})
        if not found.form:
            what = "key_id is no thumbprint of certificate_file in any form, so it names another certificate"
            yield _certain(at, what, fix)
            return
        form, exact = found.form, found.exact
    else:
        plain = re.sub(r"[\s:.-]", "", section.key_id)
        form = _USUAL_FORM if _SPELLED_KID.fullmatch(plain) else ""
        exact = bool(_USUAL_KID.fullmatch(section.key_id))
    if form != _USUAL_FORM:
        shown = f"the {form} thumbprint" if form else "no SHA-1 thumbprint of 40 hexadecimal digits"
        what = f"key_id is {shown}, and the bank's samples use SHA-1 in hexadecimal"
        yield _certain(at, what, fix)
    elif not exact:
        what = "key_id is the SHA-1 thumbprint in another spelling: the bank writes capitals without colons or spaces"
        yield _certain(at, what, fix)


def assertion_audience(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield a cause if the assertion's aud is not the URL that it is sent to (RFC 7523 3)."""
    given, url = evidence.section.assertion_audience, evidence.section.token_url
    if given in {"", url}:
        return
    slash = given.rstrip("/") == url.rstrip("/")
    what = "assertion_audience differs from token_url by the slash at its end" if slash else (
        "assertion_audience is another address than token_url, and endpoints demand their own"
    )  # fmt: skip
    fix = "remove assertion_audience: it is token_url by default"
    yield LikelyCause(evidence.at("assertion_audience"), what, fix, confirmed=not slash)


def validity(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield a cause if the certificate is expired or not yet valid, by this machine's clock and by the endpoint's."""
    certificate = evidence.certificate
    if certificate is None or any(_is_valid(certificate, moment) for moment in evidence.moments):
        return
    at, day = evidence.at("certificate_file"), "%Y-%m-%d"
    if evidence.moments[0] >= certificate.not_valid_after_utc:
        what = f"the certificate expired on {certificate.not_valid_after_utc.strftime(day)}"
        fix = "make a new one (`payproxy keys new`) and register it at the bank"
        yield _certain(at, what, fix)
    else:
        what = f"the certificate is not valid before {certificate.not_valid_before_utc.strftime(day)}"
        yield _certain(at, what, "wait, or look at this machine's clock")


def clock(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield a cause if the skew can't be corrected, or the certificate is invalid by the endpoint's clock."""
    fix = "set this machine's clock (NTP): assertions carry its time"
    at = ("credentials", evidence.name)
    certificate = evidence.certificate
    if evidence.skew is None:
        what = "this machine's clock may be off; the answer did not have the endpoint's time"
        yield LikelyCause(at, what, fix)
    elif abs(evidence.skew) > MAX_CORRECTION_SECONDS:
        what = f"{clock_words(evidence.skew)}, too far to be corrected for"
        yield _certain(at, what, fix)
    elif certificate is not None and [_is_valid(certificate, moment) for moment in evidence.moments] == [True, False]:
        what = f"{clock_words(evidence.skew)}, by which the certificate is not valid yet or no longer"
        yield _certain(at, what, fix)


def unproven_key(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield a cause if nothing proves that the key belongs to the registered certificate."""
    if evidence.certificate is None:
        what = "private_key_file may be the key of another certificate than the one that key_id names"
        fix = "set certificate_file: `payproxy check` then says whether the two belong together"
        yield LikelyCause(evidence.at("private_key_file"), what, fix)


def client_id(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield a cause in the client id: white space, another flavor's, or unknown in this environment."""
    given, flavor = evidence.section.client_id, evidence.section.flavor
    at = evidence.at("client_id")
    fix = "copy the client id from the bank's page of this environment"
    if given != given.strip():
        what = "client_id has white space around it"
        yield _certain(at, what, "remove the white space")
    elif flavor == "jwt" and given.startswith(_LEGACY_CLIENT):
        what = "client_id is one of the legacy ADFS endpoint's (CC-...)"
        yield _certain(at, what, fix)
    elif flavor == "adfs" and _UUID.fullmatch(given):
        what = "client_id is a UUID, as the modern endpoint has them; those of ADFS begin with CC-"
        yield _certain(at, what, fix)
    else:
        what = "the bank does not know client_id, or knows it in another environment only"
        yield LikelyCause(at, what, fix)


def usual_client_id(evidence: Evidence) -> bool:
    """Return whether the client id has the form usual for this kind of endpoint."""
    return bool(_UUID.fullmatch(evidence.section.client_id)) == (evidence.section.flavor == "jwt")


def registration(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield the cause that the certificate was not uploaded, or for another client or environment."""
    shown = ""
    if evidence.certificate is not None:
        shown = f" (thumbprint {thumbprint(evidence.certificate, _USUAL_FORM)})"
    yield LikelyCause(
        key=evidence.at("certificate_file"),
        what=f"this certificate{shown} was not uploaded for this client in this environment, or is not active yet",
        fix="look at the client id and the Thumbprint on the bank's Security page of this environment (`payproxy keys "
        "inspect FILE --expect THUMBPRINT`); where that is missing, upload the certificate there with the use OAUTH"
        if evidence.section.flavor != "adfs"
        else "send the certificate to your representative at the bank, or ask for which client id it is known",
    )


def secret(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield the cause that the client secret is wrong, or was copied with extra characters."""
    at = evidence.at("client_secret_file")
    if evidence.secret_doubt is not None:
        what, fix = evidence.secret_doubt
        yield _certain(at, f"the client secret {what}", fix)
    else:
        what = "the client secret is not, or no longer, that of this client"
        file = f" into {evidence.section.client_secret_file}" if evidence.section.client_secret_file else ""
        yield LikelyCause(at, what, f"copy it again from the bank's page of this environment{file}")


def tls_identity(evidence: Evidence) -> Iterator[LikelyCause]:
    """Yield a cause if mutual TLS is used: the client certificate may not be the registered one."""
    if evidence.section.client_certificate_file or evidence.section.auth_method == "tls_client_auth":
        what = "the TLS client certificate is not registered for this client"
        yield LikelyCause(evidence.at("client_certificate_file"), what, "register it, or name the right one")


def audience(evidence: Evidence, *, asked: str, at: Key) -> Iterator[LikelyCause]:
    """Yield causes in the audience or resource: missing, another flavor's, or unknown."""
    flavor, fix = evidence.section.flavor, "copy the audience (resource id) that the bank gave out for this API"
    preset = PRESETS[flavor].get("audience_parameter")
    if evidence.section.audience_parameter != preset and flavor != "basic":
        what = f'audience_parameter is not "{preset}", the field that this kind of endpoint reads'
        yield _certain(evidence.at("audience_parameter"), what, "remove audience_parameter")
    if not asked:
        what = "the route has no audience, and this endpoint wants one"
        yield _certain(at, what, fix)
    elif asked != asked.strip():
        what = "the audience has white space around it"
        yield _certain(at, what, "remove the white space")
    elif flavor == "jwt" and asked.upper().startswith(_LEGACY_RESOURCE):
        what = "the audience is a resource id of the legacy ADFS endpoint"
        yield _certain(at, what, fix)
    elif flavor == "adfs" and asked.startswith(_MODERN_AUDIENCE):
        what = "the audience is one of the modern endpoint; ADFS has resource ids (JPMC:URI:RS-...)"
        yield _certain(at, what, fix)
    else:
        what = f'the bank does not know the audience "{asked}", or has not granted it to this client'
        yield LikelyCause(at, what, fix)


def _is_valid(certificate: x509.Certificate, moment: datetime) -> bool:
    return certificate.not_valid_before_utc <= moment < certificate.not_valid_after_utc
