import pytest
from pydantic import ValidationError

from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.models import validated
from proxy.settings.values import masked


@pytest.mark.parametrize(
    ("flavor", "expected"),
    [
        (
            "basic",
            (
                "https://id.payments.jpmorgan.com/am/oauth2/alpha/access_token",
                "client_secret_basic",
                "",
                False,
                "jpm:payments:sandbox",
            ),
        ),
        ("jwt", ("https://login.jpmorgan.com/oauth2/token", "private_key_jwt", "audience", False, "")),
        ("adfs", ("", "private_key_jwt", "resource", True, "")),
    ],
)
def test_presets(flavor: str, expected: tuple[str | bool, ...]) -> None:
    """Each flavor presets what the contract's table says."""
    section = validated(CredentialSection, {"flavor": flavor, "client_id": "x"})

    assert expected == (
        section.token_url,
        section.auth_method,
        section.audience_parameter,
        section.send_client_id,
        section.default_scope,
    )


def test_every_preset_can_be_overridden() -> None:
    """What is configured wins over the flavor."""
    changed = {
        "token_url": "https://login.test.jpmorgan.com/oauth2/token",
        "auth_method": "tls_client_auth",
        "audience_parameter": "",
        "send_client_id": True,
    }
    section = validated(CredentialSection, {"flavor": "jwt", "client_id": "x", **changed})

    assert changed.items() <= masked(section).items()


def test_the_assertions_audience_follows_the_token_url() -> None:
    """Without assertion_audience the assertion is addressed to the token endpoint; with it, to that."""
    values = {"flavor": "jwt", "client_id": "x"}

    assert validated(CredentialSection, values).assertion_audience == "https://login.jpmorgan.com/oauth2/token"
    assert validated(CredentialSection, {**values, "assertion_audience": "a"}).assertion_audience == "a"


def test_reserved_parameters_include_the_audiences_field() -> None:
    """`resource` is free for a flavor that sends `audience`, and the other way round."""
    jwt = validated(CredentialSection, {"flavor": "jwt", "client_id": "x"})
    adfs = validated(CredentialSection, {"flavor": "adfs", "client_id": "x"})

    assert {"audience", "client_assertion", "scope"} <= jwt.reserved_parameters
    assert "resource" not in jwt.reserved_parameters
    assert "resource" in adfs.reserved_parameters


def test_a_secret_shows_itself_nowhere() -> None:
    """Neither the section nor its dump nor the error about it has the secret in it."""
    section = validated(CredentialSection, {"flavor": "basic", "client_id": "x", "client_secret": "canary-1"})

    assert section.client_secret == Secret("canary-1")
    assert "canary" not in repr(section) + str(section) + str(masked(section))
    with pytest.raises(ValidationError) as caught:
        validated(CredentialSection, {"flavor": "basic", "client_id": "x", "client_secret": ["canary-2"]})
    assert "canary" not in str(caught.value)
