"""What asking shows about a site."""

from collections.abc import Mapping

from proxy.checks.online import Online, check_online
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.settings.findings import Severity
from proxy.settings.load import load
from tests.cli.serving import Site


async def asked(place: Site, *, environ: Mapping[str, str] | None = None, call_too: bool = False) -> Online:
    """Return what asking shows."""
    loaded = load(place.config, environ={}, cwd=place.folder)
    assert loaded.settings is not None, loaded.findings
    return await check_online(
        loaded, clock=SystemClock(), entropy=SystemEntropy(), environ=environ or {}, call_too=call_too
    )


async def blamed(place: Site, *, environ: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Return key and text of the one error that asking shows."""
    found = await asked(place, environ=environ)
    [finding] = [one for one in found.findings if one.severity is Severity.ERROR]
    assert finding.file == str(place.config)
    assert finding.line > 0
    return finding.key, str(finding)
