import json

from proxy.telemetry.status import CertificateStatus
from tests.telemetry.support import no_token, status


def test_a_status_is_json() -> None:
    """The whole value is JSON, states by their words, counts by sink, each token with what its last error means."""
    given = status(
        tokens=(no_token(error_code="token_refused", error="invalid_scope"),),
        certificates=(CertificateStatus(name="login", use="credential", subject="CN=x", expires=1.0),),
        log_dropped=(("stdout", 2),),
    )

    values = json.loads(json.dumps(given.as_dict()))

    assert values["workers"][0]["state"] == "serving"
    assert values["tokens"][0]["state"] == "none"
    assert values["tokens"][0]["meaning"].endswith("look at scope")
    assert values["certificates"][0]["expires"] == 1.0
    assert values["log_dropped"] == {"stdout": 2}
