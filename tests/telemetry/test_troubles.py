import pytest

from proxy.telemetry.error_meanings import MEANINGS
from proxy.telemetry.troubles import NOW_SECONDS, troubles
from tests.telemetry.support import error_status, no_token, status, token, worker

NOW = 1_800_000_000.0


def test_a_quiet_instance_has_none() -> None:
    """Nor does one whose errors and refusals are over."""
    before = NOW - NOW_SECONDS
    quiet = status(time=NOW, errors=(error_status(last=before),), tokens=(token(), token(refused=before)))

    assert troubles(quiet) == ()


def test_late_answers_are_summed_over_the_workers() -> None:
    """With age and route of the oldest, and what comes of it."""
    workers = (
        worker(late=2, late_seconds=3.4, late_route="payments"),
        worker(2, late=1, late_seconds=8.2, late_route="validations"),
        worker(3),
    )
    [words] = troubles(status(time=NOW, workers=workers))

    assert words.startswith("3 requests have no answer of the bank yet, the longest for 8 s on route validations: ")
    assert "the bank is slow, or does not answer" in words
    assert troubles(status(workers=workers[2:])) == ()
    assert troubles(status(workers=(worker(late=1, late_route="r"),)))[0].startswith("1 request has no answer")


@pytest.mark.parametrize(
    ("slot", "end"),
    [
        (token(refused=NOW - 3, minted=NOW - 2), "a new one is in use."),
        (token(refused=NOW - 3, minted=NOW - 9), "there is no newer one yet."),
        (no_token(refused=NOW - 3), "there is no newer one yet."),
    ],
)
def test_a_refused_token_is_named_with_what_became_of_it(slot: object, end: str) -> None:
    """For a minute."""
    [words] = troubles(status(time=NOW, tokens=(slot,)))

    assert words.startswith("3 s ago the bank refused a token of login for jpm:uri:prod:payments: it was revoked")
    assert words.endswith(end)


def test_the_latest_errors_are_told_with_meaning_and_cause() -> None:
    """At most three kinds."""
    kinds = tuple(error_status(code="", status=500 + n, last=NOW - n, cause="") for n in range(5))
    told = troubles(status(time=NOW, errors=kinds))

    assert told[0] == "500 from the bank on route payments, 0 s ago: The bank answered 500."
    assert len(told) == 3
    [words] = troubles(status(time=NOW, errors=(error_status(last=NOW, cause="silence"),)))
    assert words.startswith("upstream_timeout on route payments, 0 s ago: The bank did not answer")
    assert words.endswith("Cause: silence.")


def test_what_callers_do_wrong_is_no_trouble_of_the_instance() -> None:
    """Every other code is."""
    mine = {code for code in MEANINGS if troubles(status(time=NOW, errors=(error_status(code=code, last=NOW),)))}

    assert mine == {
        *("overloaded", "side_unknown", "log_unavailable", "internal_error", "token_refused", "token_unavailable"),
        "signature_unavailable",
        *("upstream_unreachable", "upstream_reset", "upstream_bad_response", "upstream_timeout"),
    }
