import pytest

from proxy.telemetry.health import FIRST_MINT_SECONDS, Check, CheckStatus, holds, lines, live, ready, started
from proxy.telemetry.status import SinkStatus, Status, TokenState, WorkerState
from tests.telemetry.support import no_token, status, token, worker


def check(given: Status, name: str) -> Check:
    """Return the readiness check *name*."""
    return next(each for each in ready(given) if each.name == name)


def test_an_instance_in_order_is_live_started_and_ready() -> None:
    """With everything in order all checks are ok."""
    checks = [*live(status()), *started(status()), *ready(status())]

    assert {each.verdict for each in checks} == {CheckStatus.OK}
    assert holds(checks)


def test_without_a_configuration_in_force_it_is_not_ready() -> None:
    """No configuration in force: not ready, not started."""
    given = status(config_digest="")

    assert check(given, "configuration").verdict is CheckStatus.FAILED
    assert not holds(ready(given))
    assert not holds(started(given))


def test_with_an_unusable_key_it_is_not_ready() -> None:
    """A key that can't sign: not ready, and the reason is that key's."""
    given = status(key_problems=("login: oauth.key is readable by group",))

    assert check(given, "keys").reason == "login: oauth.key is readable by group"
    assert not holds(ready(given))
    assert not holds(started(given))


def test_with_a_broken_journal_it_is_not_ready() -> None:
    """A journal that can't be written: not ready, since requests would be refused."""
    given = status(journal_problem="no space left on device")

    assert check(given, "journal").verdict is CheckStatus.FAILED
    assert not holds(ready(given))


def test_a_broken_journal_does_not_ask_for_a_restart() -> None:
    """What a restart can't mend fails neither liveness nor startup."""
    given = status(journal_problem="no space left on device", draining=True)

    assert holds(live(given))
    assert holds(started(given))


def test_while_draining_it_is_not_ready() -> None:
    """A stopping instance is not ready at once, for load balancers; its leaving workers are no second fault."""
    given = status(draining=True, workers=())

    assert not holds(ready(given))
    assert check(given, "workers").verdict is CheckStatus.OK


def test_without_a_serving_worker_it_is_not_ready() -> None:
    """A worker that only starts serves nobody."""
    given = status(workers=(worker(state=WorkerState.STARTING),))

    assert check(given, "workers").reason == "0 of 1 workers serve"
    assert not holds(ready(given))
    assert not holds(started(given))


def test_a_worker_that_is_not_heard_serves_nobody() -> None:
    """Alone it makes the instance unready; beside one that serves it degrades it, as a dead one does."""
    silent = worker(state=WorkerState.UNRESPONSIVE)
    reason = "worker 1 does not respond, and is replaced if that lasts"

    alone = check(status(workers=(silent,)), "workers")
    assert (alone.verdict, alone.reason) == (CheckStatus.FAILED, f"0 of 1 workers serve; {reason}")
    beside = check(status(workers=(silent, worker(2)), workers_wanted=2), "workers")
    assert (beside.verdict, beside.reason) == (CheckStatus.DEGRADED, f"1 of 2 workers serve; {reason}")


def test_with_fewer_workers_than_wanted_it_is_degraded() -> None:
    """While a dead worker is replaced the others serve."""
    given = status(workers_wanted=2)

    assert check(given, "workers").verdict is CheckStatus.DEGRADED
    assert holds(ready(given))


def test_a_worker_that_is_full_degrades_with_the_way_out() -> None:
    """Those who are connected are served: unready would send their next requests away, too."""
    given = status(workers=(worker(1), worker(2, full=True)), workers_wanted=2)

    assert check(given, "callers").verdict is CheckStatus.DEGRADED
    assert check(given, "callers").reason.startswith("worker 2 is out of file descriptors")
    assert holds(ready(given))


def test_until_the_first_mint_was_tried_it_is_not_ready() -> None:
    """A credential whose token endpoint has not answered yet makes its requests wait: not ready."""
    given = status(uptime=FIRST_MINT_SECONDS - 0.1, tokens=(token(), no_token(credential="adfs", tried=False)))

    assert check(given, "first_mints").reason == "no answer yet for adfs"
    assert not holds(ready(given))
    assert not holds(started(given))


def test_after_fifteen_seconds_it_is_ready_without_a_first_mint() -> None:
    """One token endpoint that is silent does not keep the other routes from being served."""
    given = status(uptime=15.0, tokens=(token(), no_token(credential="adfs", tried=False)))

    assert check(given, "first_mints").verdict is CheckStatus.DEGRADED
    assert holds(ready(given))
    assert holds(started(given))


def test_a_first_mint_that_failed_was_tried() -> None:
    """A refused credential is no reason to be unready: it is degraded, with code, meaning and next try."""
    failed = no_token(error_code="token_refused", error="invalid_client", retry_in=30.0)
    given = status(uptime=1.0, tokens=(failed,))

    found = check(given, "credential/login")
    assert found.verdict is CheckStatus.DEGRADED
    assert found.reason.startswith("jpm:uri:prod:payments: no usable token: token_refused, the client is not known")
    assert found.reason.endswith("next try in 30 s")
    assert holds(ready(given))


def test_a_failed_renewal_is_degraded_while_the_token_lasts() -> None:
    """A later failure says how long the old token will do."""
    given = status(tokens=(token(state=TokenState.STALE, seconds_left=41.7, error_code="token_unavailable"),))

    assert "token for 41 s more: token_unavailable" in check(given, "credential/login").reason
    assert holds(ready(given))


def test_an_expired_token_does_not_make_it_unready() -> None:
    """An outage of one token endpoint takes no replica away."""
    given = status(tokens=(token(state=TokenState.EXPIRED, error_code="token_unavailable"),))

    assert check(given, "credential/login").verdict is CheckStatus.DEGRADED
    assert holds(ready(given))


@pytest.mark.parametrize("state", [TokenState.NONE, TokenState.EXPIRED])
def test_a_required_credential_without_a_usable_token_is_not_ready(state: TokenState) -> None:
    """ready_requires asks for exactly this: no usable token of that credential, not ready."""
    given = status(tokens=(token(state=state),), ready_requires=("login",))

    assert check(given, "credential/login").verdict is CheckStatus.FAILED
    assert not holds(ready(given))


def test_a_required_credential_needs_a_token_for_each_audience() -> None:
    """One of two audiences without a token is enough to be unready, and only that one is named."""
    given = status(tokens=(token(), no_token(audience="reports")), ready_requires=("login",))

    assert check(given, "credential/login").reason == "reports: no usable token"


def test_a_required_credential_stays_ready_while_its_token_lasts() -> None:
    """A failed renewal of a required credential is degraded as long as requests can be served."""
    given = status(tokens=(token(state=TokenState.STALE, error_code="token_unavailable"),), ready_requires=("login",))

    assert check(given, "credential/login").verdict is CheckStatus.DEGRADED
    assert holds(ready(given))


def test_a_required_credential_that_no_route_uses_is_not_ready() -> None:
    """A requirement that nothing can fulfil is not passed over in silence."""
    given = status(ready_requires=("adfs",))

    assert check(given, "credential/adfs").verdict is CheckStatus.FAILED


def test_a_refused_reload_is_degraded() -> None:
    """The old configuration serves on."""
    given = status(reload_problem="2 errors in payproxy.toml")

    assert check(given, "reload").verdict is CheckStatus.DEGRADED
    assert holds(ready(given))


def test_verbose_lines_say_each_verdict() -> None:
    """One line a check, its mark first, and the outcome last."""
    checks = [
        Check(name="a"),
        Check(name="b", verdict=CheckStatus.DEGRADED, reason="slow"),
        Check(name="c", verdict=CheckStatus.FAILED, reason="gone"),
    ]

    assert lines(checks, title="readyz") == ("[+]a ok\n[!]b degraded: slow\n[-]c failed: gone\nreadyz check failed\n")
    assert lines(checks[:2], title="readyz").endswith("readyz check passed\n")


def test_a_reason_can_not_write_lines() -> None:
    """What a token endpoint sent can't forge a check of its own."""
    given = status(journal_problem="x\n[+]journal ok\x1b[2J" + "y" * 1000)

    text = lines(ready(given), title="readyz")
    assert "\n[+]journal ok" not in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 600


def test_a_sink_that_is_away_degrades() -> None:
    """Its records wait on the disk; the others get theirs, and requests are served."""
    away = SinkStatus(name="database", backlog=7, dropped=0, failing="disk I/O error")
    given = status(sinks=(SinkStatus(name="stdout", backlog=0, dropped=0, failing=""), away))

    assert check(given, "sink/stdout").verdict is CheckStatus.OK
    assert check(given, "sink/database").verdict is CheckStatus.DEGRADED
    assert check(given, "sink/database").reason == "disk I/O error; 7 records wait"
    assert holds(ready(given))
