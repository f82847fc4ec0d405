import json

from proxy.telemetry.status import CertificateStatus, meaning
from tests.telemetry.support import no_token, sink, status


def test_a_status_is_json() -> None:
    """The whole value is JSON, states by their words, counts by sink, each token with what its last error means."""
    given = status(
        tokens=(no_token(error_code="token_refused", error="invalid_scope"),),
        certificates=(CertificateStatus(name="login", use="credential", subject="CN=x", expires=1.0),),
        sinks=(sink(dropped=2),),
    )

    values = json.loads(json.dumps(given.as_dict()))

    assert values["workers"][0]["state"] == "serving"
    assert values["tokens"][0]["state"] == "none"
    assert values["tokens"][0]["meaning"].endswith("look at scope")
    assert values["certificates"][0]["expires"] == 1.0
    assert values["log_dropped"] == {"stdout": 2}


def test_an_oauth_error_says_where_to_look() -> None:
    """The endpoint's word of RFC 6749 5.2 is explained."""
    assert "look at scope" in meaning("token_refused", "invalid_scope")
    assert "look at scope" in meaning("token_refused", "400 invalid_scope: no such scope (clock 3 s behind)")


def test_an_unknown_word_is_not_repeated() -> None:
    """A word that nobody knows falls back to what our own code means."""
    assert meaning("token_refused", "<b>x</b>") == "the token endpoint refused the credential"


def test_an_outage_is_no_refusal() -> None:
    """token_unavailable means the endpoint, whatever word came with it."""
    assert meaning("token_unavailable", "invalid_client").startswith("the token endpoint could not be reached")


def test_no_error_means_nothing() -> None:
    """After a successful mint there is nothing to explain."""
    assert meaning("", "") == ""
