"""Checks of the access to the proxy, and of the hosts that it connects to."""

import re
from collections.abc import Iterator

from proxy.settings.addresses import UnixAddress, is_loopback, listen_address, url_parts
from proxy.settings.findings import Complaint, Key, Severity
from proxy.settings.model import AdminSection, ServerSection
from proxy.settings.section import Section
from proxy.settings.valid import Valid

BANK_DOMAINS = ("jpmorgan.com", "jpmorganchase.com", "jpmchase.com", "jpmchase.net")

# Words in the bank's test hosts: api-mock, api-ms-test, api.reports.test, cat-api, checkout-cat, apigatewaycat,
# apigatewayqaf, openbankinguat, idauatg2, api-sandbox.
_TEST_WORD = re.compile(r"(?:mock|test|sandbox|cat|qaf|[a-z]*uat(?:g[0-9])?|[a-z]*gateway(?:cat|qaf))")
# The name does not show it, but this host issues tokens for the Mock environment only.
_MOCK_HOSTS = frozenset({"id.payments.jpmorgan.com"})

# The bank ends a card transaction after 70 s; an earlier timeout leaves a payment with an unknown outcome.
BANK_TRANSACTION_SECONDS = 70


def listeners(valid: Valid) -> Iterator[Complaint]:
    """Check that anonymous callers can't pay, the console is not on a network, and TLS is complete or absent."""
    settings = valid.settings
    server, admin = settings.server, settings.admin
    local = listen_address(server.listen).loopback
    production = settings.environment == "production"
    if not (valid.names("callers") or server.allow_anonymous) and (production or not local):
        reason = "in production" if production else "on a listener that other machines reach"
        yield Complaint(
            key=("server", "allow_anonymous"),
            what=f"there are no [callers], so anyone who connects could use the bank's token {reason}",
            fix="add [callers.NAME] (`payproxy callers new NAME`), or set allow_anonymous = true",
        )
    if server.client_ca_file and not server.certificate_file:
        yield Complaint(
            key=("server", "client_ca_file"),
            what="mutual TLS needs TLS",
            fix="set certificate_file and key_file too",
        )
    yield from _any_host(valid, server)
    yield from _console(admin)
    for section, values in (("server", server), ("admin", admin)):
        yield from _without_tls(section, values)


def _any_host(valid: Valid, server: ServerSection) -> Iterator[Complaint]:
    """Warn if a web page could call through its own name that resolves to this address (DNS rebinding).

    Browsers send no Origin with a plain GET, and no Sec-Fetch-Site to http://, so only the Host reveals it.
    """
    if server.hosts or isinstance(listen_address(server.listen), UnixAddress):
        return
    for name, caller in valid.settings.callers.items():
        if caller.networks and not (caller.api_key_sha256 or caller.certificate_subject or caller.facade_client_id):
            yield Complaint(
                key=("server", "hosts"),
                what=f'caller "{name}" is known by its network alone and any Host is accepted, so a web page that is '
                "open there could read with the bank's token (DNS rebinding)",
                fix='list the names by which callers reach it, like ["payproxy.corp"], or give the caller a key',
                severity=Severity.WARNING,
            )
            return


def _console(admin: AdminSection) -> Iterator[Complaint]:
    if not admin.console or not admin.listen or listen_address(admin.listen).loopback:
        return
    for name, there, how in (
        ("operators", admin.operators, "add operators (`payproxy admin hash-password NAME`)"),
        ("certificate_file", admin.certificate_file, "set certificate_file and key_file"),
    ):
        if not there:
            yield Complaint(
                key=("admin", "console"),
                what=f"other machines reach the console, which then needs {name}",
                fix=f"{how}; or set console = false (health and metrics stay), or listen on 127.0.0.1",
            )


def _without_tls(section: str, values: ServerSection | AdminSection) -> Iterator[Complaint]:
    if values.listen and not values.certificate_file and not listen_address(values.listen).loopback:
        yield Complaint(
            key=(section, "listen"),
            what="other machines reach this listener without TLS",
            fix="set certificate_file and key_file, or terminate TLS in front of it",
            severity=Severity.WARNING,
        )


def hosts(valid: Valid) -> Iterator[Complaint]:
    """Check that requests and tokens go to the bank, encrypted, and production's not to a test system."""
    production = valid.settings.environment == "production"
    for name, upstream in valid.settings.upstreams.items():
        yield from _host(("upstreams", name, "url"), upstream.url, foreign=upstream.foreign_host, production=production)
        if upstream.response_timeout <= BANK_TRANSACTION_SECONDS:
            yield Complaint(
                key=("upstreams", name, "response_timeout"),
                what=f"the bank may still complete a payment up to {BANK_TRANSACTION_SECONDS} s after it took it",
                fix="wait longer, 90 is the default; giving up earlier leaves payments with an unknown outcome",
                severity=Severity.WARNING,
            )
    for name, credential in valid.settings.credentials.items():
        if credential.token_url:
            key: Key = ("credentials", name, "token_url")
            yield from _host(key, credential.token_url, foreign=credential.foreign_host, production=production)


def _host(key: Key, url: str, *, foreign: bool, production: bool) -> Iterator[Complaint]:
    scheme, host, _, _ = url_parts(url)
    if is_loopback(host):
        return
    if scheme != "https":
        yield Complaint(key=key, what="http is for loopback only", fix="write https://")
    if not foreign and not is_of_the_bank(host):
        yield Complaint(
            key=key,
            what="the host is not one of the bank's, and the token or the client's proof would go there",
            fix="correct the URL, or set foreign_host = true",
        )
    if production and is_test_host(host):
        yield Complaint(
            key=key,
            what="the host looks like one of the bank's test systems, and the environment is production",
            fix="correct the URL or the environment",
            severity=Severity.WARNING,
        )


def is_of_the_bank(host: str) -> bool:
    """Return whether *host* is in one of the bank's domains."""
    return any(host == domain or host.endswith(f".{domain}") for domain in BANK_DOMAINS)


def is_test_host(host: str) -> bool:
    """Return whether the name of *host* says mock, test, UAT or CAT, as the bank's own test hosts do."""
    words = [word for label in host.lower().split(".") for word in label.split("-")]
    return host.lower() in _MOCK_HOSTS or any(_TEST_WORD.fullmatch(word) for word in words)


def pairs(valid: Valid) -> Iterator[Complaint]:
    """Check that a certificate and its key are configured together or not at all."""
    settings = valid.settings
    for listener in ("server", "admin"):
        yield from _pair((listener,), getattr(settings, listener), "")
    for name, upstream in settings.upstreams.items():
        yield from _pair(("upstreams", name), upstream, "client_")
    for name, credential in settings.credentials.items():
        yield from _pair(("credentials", name), credential, "client_")


def _pair(key: Key, section: Section, prefix: str) -> Iterator[Complaint]:
    names = (f"{prefix}certificate_file", f"{prefix}key_file")
    there = [name for name in names if getattr(section, name)]
    if len(there) != 1:
        return
    missing = names[0] if there == [names[1]] else names[1]
    yield Complaint(key=(*key, missing), what=f"is missing beside {there[0]}", fix="set both, or none of them")
