"""The keeper's own log: one line on stderr for each event, for people and journald."""

import sys
from collections.abc import Callable

from proxy.clock import Clock, timestamp
from proxy.events import (
    CallerCertificatesRefused,
    CallerHeld,
    CertificateExpires,
    ClockSkewMeasured,
    ConfigurationIncomplete,
    ConfigurationRefused,
    ConfigurationReplaced,
    CredentialReplaced,
    Event,
    GuardHindered,
    MigrationRolledBack,
    MintFailed,
    RecordsNotEvaluated,
    ReplacementRefused,
    RequestsUnrecorded,
    SigningFailed,
    SigningKeyReplaced,
    SigningRecovered,
    SinkFailed,
    SinkRecovered,
    StreamFailed,
    StreamRecovered,
    TokenAdopted,
    TokenMinted,
    TokenSharingFailed,
    TokenSharingRecovered,
    TokenSharingStopped,
    WorkerEnded,
    WorkerHangs,
    WorkerNotStarted,
    WorkerRecovered,
    WorkerStarted,
)
from proxy.telemetry.expiry import renewal

# A smaller clock skew is harmless for assertions; a larger one is logged.
_SKEW_WORTH_SAYING_SECONDS = 5.0


class EventLog:
    """Writes events as lines to *write*, each after its time; *stamp* formats epoch seconds."""

    def __init__(
        self, *, clock: Clock, write: Callable[[str], None], stamp: Callable[[float], str] = timestamp
    ) -> None:
        self._stamp = stamp
        self._clock = clock
        self._write = write

    def observe(self, event: Event) -> None:
        """Write *event* if it has a log text."""
        text = _text(event)
        if text:
            self.write_line(text)

    def write_line(self, text: str) -> None:
        """Write one line."""
        self._write(f"{self._stamp(self._clock.now())} {text}")


_REFUSED = {
    "expired": "expired",
    "missing": "missing (the caller showed none)",
    "not_trusted": "not trusted (none that server.client_ca_file vouches for)",
}


def write_stderr(text: str) -> None:
    """Write the line *text* to stderr at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _text(event: Event) -> str:  # noqa: C901, PLR0911, PLR0912 - one case for each event
    match event:
        case TokenMinted():
            return (
                f"token minted: {event.credential} {event.audience or '-'}, fingerprint {event.fingerprint}, "
                f"valid for {event.lifetime:.0f} s, took {event.seconds * 1000:.0f} ms"
            )
        case TokenAdopted():
            return (
                f"token adopted: {event.credential} {event.audience or '-'}, fingerprint {event.fingerprint}, "
                f"minted by replica {event.minter}"
            )
        case TokenSharingFailed():
            return f"tokens are not shared: {event.cause}"
        case TokenSharingRecovered():
            return "tokens are shared with other replicas again"
        case TokenSharingStopped():
            return (
                f"tokens of {event.credential} {event.audience or '-'} are not shared any more: those of other "
                "replicas were refused here, ours are accepted, so they are bound to an address; set share_tokens = "
                "false"
            )
        case MintFailed():
            return (
                f"no token: {event.credential} {event.audience or '-'}: {event.code}: {event.cause}; "
                f"next try in {event.retry_in:.0f} s"
            )
        case CertificateExpires():
            renew = renewal(event.use, event.name.partition(",")[0])
            return f"certificate of {event.name} ({event.use}) {event.words}, at {timestamp(event.expires)}: {renew}"
        case ClockSkewMeasured() if abs(event.seconds) > _SKEW_WORTH_SAYING_SECONDS:
            return f"clock: {event.credential}'s token endpoint is {event.seconds:+.0f} s from this machine's clock"
        case WorkerStarted():
            return f"worker {event.worker} started as process {event.pid}"
        case WorkerEnded():
            how = "ended" if event.expected else "ended unexpectedly; what it had in flight is recorded as unknown"
            return f"worker {event.worker} (process {event.pid}) {how}, exit code {event.exit_code}"
        case WorkerNotStarted():
            return f"worker {event.worker} can't be started: {event.cause}; next try in {event.retry_in:.1f} s"
        case WorkerHangs():
            then = "killed, another takes its place" if event.killed else "it counts as not ready"
            return f"worker {event.worker} (process {event.pid}) did not respond for {event.seconds:.0f} s: {then}"
        case WorkerRecovered():
            return f"worker {event.worker} (process {event.pid}) responds again"
        case RequestsUnrecorded():
            return (
                f"{event.count} requests that worker {event.worker} had begun are not in the request log; a record of "
                "kind lifecycle says so"
            )
        case CredentialReplaced():
            return f"credential {event.credential} replaced: key or secret {event.fingerprint}, proven by a mint"
        case SigningKeyReplaced():
            return f"key for bodies of {', '.join(event.routes)} replaced: {event.thumbprint}"
        case SigningFailed():
            return f"bodies of {', '.join(event.routes)} can't be signed, nothing of them is sent: {event.cause}"
        case SigningRecovered():
            return f"bodies of {', '.join(event.routes)} are signed again"
        case ReplacementRefused():
            again = f"; next try in {event.retry_in:.0f} s" if event.retry_in else ""
            return f"new files of {event.what} refused, the old ones stay in use: {event.cause}{again}"
        case ConfigurationReplaced():
            wait = f"; changed only by a restart: {', '.join(event.at_restart)}" if event.at_restart else ""
            return f"configuration {event.digest} is in force{wait}"
        case ConfigurationRefused():
            return f"configuration refused, the old one stays in force: {event.cause}"
        case ConfigurationIncomplete():
            return (
                f"the new configuration is in force, but not yet for {event.cause}: a defect of the proxy; next try in "
                f"{event.retry_in:.0f} s"
            )
        case MigrationRolledBack():
            return (
                f"guard: migration {event.migration} went back from weight {event.weight_before} to {event.weight}: "
                f"{event.reason}; {_legacy_token(event)}"
            )
        case CallerHeld():
            return (
                f"guard: migration {event.migration} keeps {event.caller or 'the anonymous caller'} on legacy: "
                f"{event.reason}; {_legacy_token(event)}"
            )
        case GuardHindered():
            return f"guard: migration {event.migration}: {event.cause}"
        case SinkFailed():
            return f"request log: {event.sink} takes no records, they are kept meanwhile: {event.cause}"
        case SinkRecovered():
            return f"request log: {event.sink} takes records again"
        case StreamFailed():
            return f"request log: the keeper can't write its files, the workers' journals keep all: {event.cause}"
        case StreamRecovered():
            return "request log: the keeper writes its files again"
        case CallerCertificatesRefused():
            counts = event.counts
            reasons = ", ".join(f"{counts[name]} {words}" for name, words in _REFUSED.items() if name in counts)
            return f"certificates of callers refused, nothing was served: {reasons}"
        case RecordsNotEvaluated():
            return (
                "request log: records are in the log, but the keeper could not evaluate some, so status, console, "
                f"retry pins or automatic inquiries may miss them: {event.cause}"
            )
        case _:
            return ""


def _legacy_token(event: MigrationRolledBack | CallerHeld) -> str:
    known = event.legacy_token_at_hand
    return "a legacy token is available" if known else "NO legacy token is available: look at that credential now"
