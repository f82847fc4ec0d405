"""Explains why a probe failed, and what to check; pure."""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from proxy.checks.probe import ProbeResult, ProbeStep
from proxy.settings.findings import Complaint, Key
from proxy.settings.network_rules import is_of_the_bank
from proxy.text import printable

_MAX_NAME = 200

# X509_V_ERR_*: OpenSSL's verify(1).
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = frozenset({62, 64})  # hostname, IP address


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was probed: *table* and the name of its URL's key; *proxy_variable* like HTTPS_PROXY, "" if unset.

    payproxy does not read such a variable, but a set one shows how this machine reaches the internet.
    """

    table: Key
    url_key: str
    proxy_variable: str = ""

    def complaint(self, name: str, what: str, fix: str) -> Complaint:
        """Return a complaint about the key *name* of the table."""
        return Complaint(key=(*self.table, name), what=what, fix=fix)


def connect_error(result: ProbeResult, probed: Probed) -> Complaint | None:
    """Return what is wrong with *result*, None if the probe succeeded."""
    about = _STEPS.get(result.step)
    return about(result, probed) if about is not None else None


def connected_line(result: ProbeResult) -> str:
    """Return a line that describes a successful probe."""
    there = result.destination
    through = f" through {there.egress_proxy}" if there.egress_proxy else ""
    if result.certificate is None:
        return f"{there.authority} answers{through}"
    end = result.certificate.not_valid_after_utc.strftime("%Y-%m-%d")
    by = issuer(result.certificate)
    return f"{there.authority} answers{through}, {result.tls_version}, certificate issued by {by}, ends {end}"


def issuer(certificate: x509.Certificate) -> str:
    """Return the issuer of *certificate*, printable and of limited length."""
    return printable(certificate.issuer.rfc4514_string(), _MAX_NAME)


def _no_name(result: ProbeResult, probed: Probed) -> Complaint:
    if result.destination.egress_proxy:
        what = f"the egress proxy's name can't be resolved ({result.reason})"
        return probed.complaint("egress_proxy", what, "correct its host name")
    what = f"{result.destination.host} can't be resolved ({result.reason})"
    return _outside(what, f"correct the host in {probed.url_key}, or this machine's name servers", probed)


def _no_connection(result: ProbeResult, probed: Probed) -> Complaint:
    there = result.destination
    if there.egress_proxy:
        what = f"the egress proxy {there.egress_proxy} can't be reached ({result.reason})"
        return probed.complaint("egress_proxy", what, "correct its address, or start it")
    what = f"{there.authority} can't be reached ({result.reason})"
    return _outside(what, "have the firewall let this machine connect there", probed)


def _outside(what: str, fix: str, probed: Probed) -> Complaint:
    """Return a complaint about a direct connection; if a proxy variable is set it names egress_proxy first."""
    if probed.proxy_variable:
        what = f"{what}; {probed.proxy_variable} is set here, which payproxy does not read"
        return probed.complaint("egress_proxy", what, f"set egress_proxy to that proxy; else {fix}")
    fix = f"{fix}; or set egress_proxy, if the internet is reached through a proxy only"
    return probed.complaint(probed.url_key, what, fix)


def _no_tunnel(result: ProbeResult, probed: Probed) -> Complaint:
    fix = f"have it allow CONNECT to {result.destination.authority} for this machine"
    if "407" in result.reason:
        fix += ", without a password: payproxy has none to give"
    return probed.complaint("egress_proxy", result.reason, fix)


def _no_handshake(result: ProbeResult, probed: Probed) -> Complaint:
    what = f"no TLS connection with {result.destination.authority} ({result.reason})"
    fix = f"look whether {probed.url_key} names a TLS port, and whether a firewall or proxy in between breaks TLS"
    return probed.complaint(probed.url_key, what, fix)


def _bad_certificate(result: ProbeResult, probed: Probed) -> Complaint:
    there, certificate = result.destination, result.certificate
    by = f", issued by {issuer(certificate)}," if certificate else ""
    what = f"the certificate that {there.authority} shows{by} is not accepted: {result.reason}"
    if result.verify_code in _WRONG_NAME:
        names = f"it is for {_names(certificate)}; " if certificate else ""
        return probed.complaint(probed.url_key, what, f"{names}correct the host, or find out who answers in its place")
    if result.verify_code in {_NOT_YET_VALID, _EXPIRED}:
        return probed.complaint(probed.url_key, what, "look at this machine's clock first")
    fix = "set ca_file to the root certificate of that issuer"
    if there.ca_file:
        fix = "put the root certificate of that issuer into ca_file, which replaces the system's authorities"
    elif is_of_the_bank(there.host):
        what += "; the bank's come from public authorities, so a proxy that inspects TLS most likely answered"
        fix = "set ca_file to that proxy's root certificate, or have the host exempted from inspection"
    return probed.complaint("ca_file", what, fix)


_STEPS: dict[ProbeStep, Callable[[ProbeResult, Probed], Complaint]] = {
    ProbeStep.NAME: _no_name,
    ProbeStep.CONNECTION: _no_connection,
    ProbeStep.TUNNEL: _no_tunnel,
    ProbeStep.HANDSHAKE: _no_handshake,
    ProbeStep.CERTIFICATE: _bad_certificate,
}


def _names(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return printable(certificate.subject.rfc4514_string(), _MAX_NAME)
    names = [str(name.value) for name in extension.value]
    return printable(", ".join(names), _MAX_NAME)
