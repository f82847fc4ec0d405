from proxy.events import (
    CallerCertificatesRefused,
    CallerHeld,
    GuardHindered,
    MigrationRolledBack,
    WorkerHangs,
    WorkerNotStarted,
    WorkerRecovered,
)
from proxy.telemetry.log import EventLog
from tests.support.clock import ManualClock


def test_what_the_guard_does_is_told_with_whether_legacy_can_serve() -> None:
    """The one thing that an operator has to know then."""
    lines: list[str] = []
    log = EventLog(clock=ManualClock(), write=lines.append)
    log.observe(
        MigrationRolledBack(
            migration="payments", weight_before=50, weight=10, reason="3 of 9 failed", legacy_token_at_hand=True
        )
    )
    log.observe(CallerHeld(migration="payments", caller="erp", reason="3 of 9 failed", legacy_token_at_hand=False))
    log.observe(GuardHindered(migration="payments", cause="the log can't be read"))

    assert [line.partition(" ")[2] for line in lines] == [
        "guard: migration payments went back from weight 50 to 10: 3 of 9 failed; a legacy token is available",
        (
            "guard: migration payments keeps erp on legacy: 3 of 9 failed; "
            "NO legacy token is available: look at that credential now"
        ),
        "guard: migration payments: the log can't be read",
    ]


def test_refused_certificates_of_callers_are_told_by_reason() -> None:
    """The callers get no answer that could say it."""
    lines: list[str] = []
    event = CallerCertificatesRefused(counts={"missing": 1, "expired": 12})
    EventLog(clock=ManualClock(), write=lines.append).observe(event)

    assert [line.partition(" ")[2] for line in lines] == [
        "certificates of callers refused, nothing was served: 12 expired, 1 missing (the caller showed none)"
    ]


def test_what_is_wrong_with_a_worker_is_told() -> None:
    """That it can't be started, does not respond, and was killed for it."""
    lines: list[str] = []
    log = EventLog(clock=ManualClock(), write=lines.append)
    log.observe(WorkerNotStarted(worker=1, cause="Too many open files", retry_in=0.4))
    log.observe(WorkerHangs(worker=1, pid=7, seconds=5.2, killed=False))
    log.observe(WorkerHangs(worker=1, pid=7, seconds=15.1, killed=True))

    log.observe(WorkerRecovered(worker=1, pid=7))

    assert [line.partition(" ")[2] for line in lines] == [
        "worker 1 can't be started: Too many open files; next try in 0.4 s",
        "worker 1 (process 7) did not respond for 5 s: it counts as not ready",
        "worker 1 (process 7) did not respond for 15 s: killed, another takes its place",
        "worker 1 (process 7) responds again",
    ]


def test_at_a_terminal_an_event_has_the_time_of_day() -> None:
    """As whoever asks for it writes it."""
    lines: list[str] = []
    EventLog(clock=ManualClock(), write=lines.append, stamp=lambda _: "09:30:04").write_line("token minted")
    assert lines == ["09:30:04 token minted"]
