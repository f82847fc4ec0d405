"""The way from this machine to the servers that the configuration names, and its clock against theirs."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from proxy.checks.connect_error import Probed, connect_error, connected_line
from proxy.checks.diagnosis import SKEW_WORTH_SAYING_SECONDS
from proxy.checks.likely_causes import clock_words
from proxy.checks.machine.line import Line, error, skipped, warning
from proxy.checks.online import PROXY_VARIABLES, STEP_SECONDS
from proxy.checks.probe import Destination, destination_of, probe
from proxy.clock import Clock
from proxy.settings.addresses import url_parts
from proxy.settings.credential import CredentialSection
from proxy.settings.model import Settings, UpstreamSection
from proxy.tokens.endpoint import MAX_CORRECTION_SECONDS
from proxy.upstream.tls import TlsUnusable, client_context

_NTP = "let NTP set this machine's clock: `timedatectl set-ntp true`; in a container: on its host"


async def network_lines(settings: Settings, *, clock: Clock, environ: Mapping[str, str]) -> list[Line]:
    """Connect to each server that *settings* names, sending nothing but one HEAD to each token endpoint for its time.

    Each step ends after 10 s; all run concurrently.
    """
    variable = proxy_variable(environ)
    probes = [_way(*one, clock=clock, variable=variable) for one in _servers(settings)]
    clocks = [_clock_line(section, clock=clock) for section in _endpoints(settings)]
    return list(await asyncio.gather(*probes, *clocks))


def proxy_variable(environ: Mapping[str, str]) -> str:
    """Return the name of a set variable such as HTTPS_PROXY, which payproxy does not read; "" if none is set."""
    return next((name for name in PROXY_VARIABLES if environ.get(name)), "")


def egress_line(variable: str, settings: Settings | None, *, blocked: bool) -> Line:
    """Return whether a proxy that *variable* names is needed and not configured; never shows its value.

    *blocked*: a server can't be reached.
    """
    sections: list[CredentialSection | UpstreamSection] = []
    if settings:
        sections = [*settings.credentials.values(), *settings.upstreams.values()]
    without = [one for one in sections if not one.egress_proxy]
    if not variable:
        return Line(check="egress proxy", what="no variable such as HTTPS_PROXY is set")
    if sections and not without:
        return Line(check="egress proxy", what=f"{variable} is set, and egress_proxy is set everywhere")
    what = f"{variable} is set, which payproxy does not read"
    if sections and not blocked:
        return Line(check="egress proxy", what=f"{what}; every server is reached without")
    fix = 'set egress_proxy = "http://host:port" in each [credentials.NAME] and [upstreams.NAME]'
    return (error if blocked else warning)("egress proxy", what, f"{fix} (`payproxy onboard --egress-proxy URL`)")


def skew_line(name: str, skew: float | None) -> Line:
    """Return whether the clock of this machine, which is *skew* seconds behind that of *name*, is right enough."""
    check = f"clock ({name})"
    if skew is None:
        return skipped(check, "no answer had a time")
    if abs(skew) <= SKEW_WORTH_SAYING_SECONDS:
        return Line(check=check, what=f"the token endpoint's clock is {skew:+.1f} s from this machine's")
    if abs(skew) > MAX_CORRECTION_SECONDS:
        return error(check, f"{clock_words(skew)}, too far to be corrected for: no token is given", _NTP)
    return warning(check, f"{clock_words(skew)}; assertions are corrected for it, up to 10 min", _NTP)


def _servers(settings: Settings) -> Iterator[tuple[Probed, Destination]]:
    seen: set[Destination] = set()
    named: list[tuple[str, str, Mapping[str, CredentialSection] | Mapping[str, UpstreamSection]]] = [
        ("credentials", "token_url", settings.credentials),
        ("upstreams", "url", settings.upstreams),
    ]
    for table, url_key, sections in named:
        for name, section in sections.items():
            destination = destination_of(section, getattr(section, url_key))
            if destination not in seen:
                seen.add(destination)
                yield Probed(table=(table, name), url_key=url_key), destination


async def _way(probed: Probed, destination: Destination, *, clock: Clock, variable: str) -> Line:
    check = f"network ({probed.table[1]})"
    try:
        result = await probe(destination, clock=clock, seconds=STEP_SECONDS)
    except TlsUnusable as unusable:
        return error(check, str(unusable), "correct the file or its path")
    named = Probed(table=probed.table, url_key=probed.url_key, proxy_variable=variable)
    complaint = connect_error(result, named)
    if complaint is None:
        return Line(check=check, what=connected_line(result))
    return error(check, f"{'.'.join(map(str, complaint.key))}: {complaint.what}", complaint.fix)


def _endpoints(settings: Settings) -> Iterable[CredentialSection]:
    """Return one credential for each token endpoint."""
    return {one.token_url: one for one in settings.credentials.values()}.values()


async def _clock_line(section: CredentialSection, *, clock: Clock) -> Line:
    host = url_parts(section.token_url).host
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return skew_line(host, await _skew(section, clock))
    except (aiohttp.ClientError, OSError, ValueError, TlsUnusable):  # OSError: TimeoutError too
        pass
    return skipped(f"clock ({host})", "the token endpoint did not answer")


async def _skew(section: CredentialSection, clock: Clock) -> float | None:
    """Return the seconds by which the endpoint's Date (RFC 9110 6.6.1) is ahead of this clock, None without one."""
    context = client_context(
        ca_file=section.ca_file,
        certificate_file=section.client_certificate_file,
        key_file=section.client_key_file,
    )
    connector = aiohttp.TCPConnector(ssl=context, force_close=True)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        url, began = URL(section.token_url, encoded=True), clock.now()
        async with session.head(url, allow_redirects=False, proxy=section.egress_proxy or None) as answer:
            date, ended = answer.headers.get("Date", ""), clock.now()
    return parsedate_to_datetime(date).timestamp() - (began + ended) / 2 if date else None
