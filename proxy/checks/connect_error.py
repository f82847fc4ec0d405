"""Explains why a probe failed, and what to check; pure."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from proxy.checks.probe import Destination, Step, Way
from proxy.settings.findings import Complaint, Key
from proxy.settings.network_rules import BANK_DOMAINS
from proxy.text import printable

_MAX_NAME = 200

# X509_V_ERR_*: OpenSSL's verify(1).
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = frozenset({62, 64})  # hostname, IP address


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What was probed: the table's *key*, the name of its *url* key; *proxy_variable* like HTTPS_PROXY, "" if unset.

    payproxy does not read such a variable, but a set one shows how this machine reaches the internet.
    """

    key: Key
    url: str
    proxy_variable: str = ""


def obstacle(way: Way, place: Place) -> Complaint | None:
    """Return the problem that stopped *way*, None if there is none."""
    about = _STEPS.get(way.step)
    return about(way, place) if about is not None else None


def passage(way: Way) -> str:
    """Return a line that describes a successful probe."""
    there = way.destination
    through = f" through {there.egress_proxy}" if there.egress_proxy else ""
    if way.certificate is None:
        return f"{there.authority} answers{through}"
    end = way.certificate.not_valid_after_utc.strftime("%Y-%m-%d")
    return (
        f"{there.authority} answers{through}, {way.tls_version}, certificate issued by {issuer(way.certificate)}, "
        f"ends {end}"
    )


def issuer(certificate: x509.Certificate) -> str:
    """Return the issuer of *certificate*, printable and of limited length."""
    return printable(certificate.issuer.rfc4514_string(), _MAX_NAME)


def _no_name(way: Way, place: Place) -> Complaint:
    if way.destination.egress_proxy:
        what = f"the egress proxy's name can't be resolved ({way.reason})"
        return Complaint(key=(*place.key, "egress_proxy"), what=what, fix="correct its host name")
    what = f"{way.destination.host} can't be resolved ({way.reason})"
    fix = f"correct the host in {place.url}, or this machine's name servers"
    return _outside(what, fix, place)


def _no_connection(way: Way, place: Place) -> Complaint:
    there = way.destination
    if there.egress_proxy:
        what = f"the egress proxy {there.egress_proxy} can't be reached ({way.reason})"
        return Complaint(key=(*place.key, "egress_proxy"), what=what, fix="correct its address, or start it")
    what = f"{there.authority} can't be reached ({way.reason})"
    return _outside(what, "have the firewall let this machine connect there", place)


def _outside(what: str, fix: str, place: Place) -> Complaint:
    """Return a complaint about a direct connection; if a proxy variable is set it names egress_proxy first."""
    if place.proxy_variable:
        what = f"{what}; {place.proxy_variable} is set here, which payproxy does not read"
        fix = f"set egress_proxy to that proxy; else {fix}"
        return Complaint(key=(*place.key, "egress_proxy"), what=what, fix=fix)
    fix = f"{fix}; or set egress_proxy, if the internet is reached through a proxy only"
    return Complaint(key=(*place.key, place.url), what=what, fix=fix)


def _no_tunnel(way: Way, place: Place) -> Complaint:
    fix = f"have it allow CONNECT to {way.destination.authority} for this machine"
    if "407" in way.reason:
        fix += ", without a password: payproxy has none to give"
    return Complaint(key=(*place.key, "egress_proxy"), what=way.reason, fix=fix)


def _no_handshake(way: Way, place: Place) -> Complaint:
    there = way.destination
    what = f"no TLS connection with {there.authority} ({way.reason})"
    fix = f"look whether {place.url} names a TLS port, and whether a firewall or proxy in between breaks TLS"
    return Complaint(key=(*place.key, place.url), what=what, fix=fix)


def _bad_certificate(way: Way, place: Place) -> Complaint:
    there, certificate = way.destination, way.certificate
    by = f", issued by {issuer(certificate)}," if certificate else ""
    what = f"the certificate that {there.authority} shows{by} is not accepted: {way.reason}"
    if way.verify_code in _WRONG_NAME:
        names = f"it is for {_names(certificate)}; " if certificate else ""
        return Complaint(
            key=(*place.key, place.url), what=what, fix=f"{names}correct the host, or find out who answers in its place"
        )
    if way.verify_code in {_NOT_YET_VALID, _EXPIRED}:
        return Complaint(key=(*place.key, place.url), what=what, fix="look at this machine's clock first")
    key = (*place.key, "ca_file")
    if there.ca_file:
        fix = "put the root certificate of that issuer into ca_file, which replaces the system's authorities"
        return Complaint(key=key, what=what, fix=fix)
    if _is_bank(there):
        what += "; the bank's come from public authorities, so a proxy that inspects TLS most likely answered"
        fix = "set ca_file to that proxy's root certificate, or have the host exempted from inspection"
        return Complaint(key=key, what=what, fix=fix)
    return Complaint(key=key, what=what, fix="set ca_file to the root certificate of that issuer")


_STEPS: dict[Step, Callable[[Way, Place], Complaint]] = {
    Step.NAME: _no_name,
    Step.CONNECTION: _no_connection,
    Step.TUNNEL: _no_tunnel,
    Step.HANDSHAKE: _no_handshake,
    Step.CERTIFICATE: _bad_certificate,
}


def _is_bank(there: Destination) -> bool:
    return any(there.host == domain or there.host.endswith(f".{domain}") for domain in BANK_DOMAINS)


def _names(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return printable(certificate.subject.rfc4514_string(), _MAX_NAME)
    names = [str(name.value) for name in extension.value]
    return printable(", ".join(names), _MAX_NAME)
