"""Tries until the bank has taken the certificate and answers the first call, or says what has to change."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from proxy.checks.offline import check_loaded
from proxy.checks.online import Online, check_online
from proxy.cli.finding_text import finding_text
from proxy.cli.output import ExitCode, note, printable
from proxy.clock import Clock
from proxy.entropy import SystemEntropy
from proxy.settings.findings import Finding, Severity
from proxy.settings.load import load

GIVE_UP_SECONDS = 600.0
# Settings that an option of `payproxy onboard` changes in the file.
CORRECTIONS = ("client_id", "audience", "token_url", "url", "egress_proxy")

# Between two tries: the bank sees each refusal, and a person who has just uploaded waits for the result.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 30.0


def pauses(wait: float) -> list[float]:
    """Return the pauses in seconds between tries, each twice as long as the one before, *wait* seconds in all."""
    found: list[float] = []
    pause = _FIRST_PAUSE
    while wait > 0:
        found.append(min(pause, wait))
        wait -= found[-1]
        pause = min(2 * pause, _LONGEST_PAUSE)
    return found


class FirstCall:
    """The first call with the configuration at *path*, waited for during *wait* seconds.

    *correct* asks a person for another value of the setting that it is given, and returns whether there is one.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        wait: float,
        environ: Mapping[str, str],
        correct: Callable[[str], bool] | None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._pauses = pauses(wait)
        self._environ = environ
        self._correct = correct
        self._said: set[str] = set()

    async def made(self) -> list[str]:
        """Return notes about what succeeded, the call last; exits with 78 for a fault of the file, 1 for others."""
        while True:
            found = await self._try()
            errors = [one for one in found.findings if one.severity is Severity.ERROR]
            self._say(found.findings)
            if not errors:
                return [printable(line) for line in found.notes]
            if not found.may_pass:
                if self._correct is not None and self._correct(errors[0].key):
                    continue
                self._stop(_way_out(errors[0].key))
            if not self._pauses:
                self._stop("The bank still refuses. The same command goes on from here, also with --client-id, ...")
            pause = self._pauses.pop(0)
            note(f"Not yet; next try in {pause:.0f} s. Ctrl-C ends this, and a later run goes on from here.")
            await self._clock.sleep(pause)

    async def _try(self) -> Online:
        loaded = load(self._path, environ=self._environ, cwd=Path.cwd())
        offline = check_loaded(loaded, now=self._clock.now())
        self._say(offline)
        if any(one.severity is Severity.ERROR for one in offline):
            note("The configuration has errors, so nothing was sent.")
            raise click.exceptions.Exit(ExitCode.CONFIGURATION)
        return await check_online(
            loaded, clock=self._clock, entropy=SystemEntropy(), environ=self._environ, call_too=True
        )

    def _say(self, findings: Sequence[Finding]) -> None:
        """Print the *findings* that were not printed before."""
        for finding in findings:
            if finding.key + finding.fix not in self._said:
                self._said.add(finding.key + finding.fix)
                note(finding_text(finding, err=True))

    def _stop(self, message: str) -> None:
        note(message)
        raise click.exceptions.Exit(ExitCode.FAILED)


def _way_out(setting: str) -> str:
    """Return how to go on once *setting*, the dotted key of a finding, is right."""
    name = setting.rpartition(".")[2]
    if name in CORRECTIONS:
        return f"`payproxy onboard --{name.replace('_', '-')} VALUE` sets another value and goes on from here."
    if name == "client_secret_file":
        return (
            "With the right secret in JPM_CLIENT_SECRET, `payproxy onboard --yes` writes it to its file and goes on; "
            "`payproxy onboard --client-id VALUE` sets another client id."
        )
    return "Once that is mended, the same command goes on from here."
