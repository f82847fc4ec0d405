"""`signature` of a rule: what is refused, and with which words."""

from pathlib import Path

import pytest

from proxy.settings.values import snapshot_of
from tests.settings.support import load_text, one_finding, plain

KEY = 'private_key_file = "signature.key"'
TOKEN = "pkcs11:token=payments;object=bodies?module-path=/usr/lib/x.so"


def signed(signature: str = KEY, *, rule: str = "", more: str = "") -> str:
    """Return the plain configuration whose only rule signs bodies as *signature* says."""
    return plain(("[[routes]]", f"[[routes]]\n{rule}"), more=f"signature = {{{signature}}}\n{more}")


@pytest.mark.parametrize(
    "signature", [KEY, f'private_key_uri = "{TOKEN}"', 'signer_command = ["/s"], certificate_file = "c.crt"']
)
def test_a_rule_signs_by_any_kind_of_key(tmp_path: Path, signature: str) -> None:
    """The worker learns that it does, and as what; of the key it learns nothing."""
    settings = load_text(tmp_path, signed(signature)).settings
    assert settings is not None
    [route] = snapshot_of(settings, instance="one").routes

    assert route.signed_type == "text/xml"
    assert "signature.key" not in repr(route)
    assert "pkcs11" not in repr(route)


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    """That is the default."""
    settings = load_text(tmp_path, plain()).settings
    assert settings is not None

    assert snapshot_of(settings, instance="one").routes[0].signed_type == ""


def test_files_are_relative_to_the_configuration(tmp_path: Path) -> None:
    """As everywhere."""
    settings = load_text(tmp_path, signed()).settings
    assert settings is not None

    assert settings.routes[0].signature.private_key_file == str(tmp_path / "signature.key")


@pytest.mark.parametrize(
    ("signature", "key", "what"),
    [
        ('content_type = "application/jose"', "signature.private_key_file", "no key is named"),
        (f'{KEY}, private_key_uri = "{TOKEN}"', "signature.private_key_uri", "there is private_key_file too"),
        ('signer_command = ["/s"]', "signature.certificate_file", "signer_command needs a certificate"),
        (f'{KEY}, content_type = "jose"', "signature.content_type", "is no media type"),
        (f'{KEY}, content_type = "text/xml\\r\\nX: y"', "signature.content_type", "line break"),
        (f'{KEY}, content_type = ""', "signature.content_type", "is no media type"),
        (f'{KEY}, key_id = "k"', "signature.key_id", "unknown key"),
        ('private_key_uri = "pkcs11:object=x"', "signature.private_key_uri", "names no module"),
        (
            f'private_key_uri = "{TOKEN}&pin-source=file:/pin", private_key_pin_file = "pin"',
            "signature.private_key_pin_file",
            "pin-source in private_key_uri too",
        ),
    ],
)
def test_what_can_not_be(tmp_path: Path, signature: str, key: str, what: str) -> None:
    """One finding, at its key."""
    finding = one_finding(load_text(tmp_path, signed(signature)))

    assert finding.key == f"routes.payments.{key}"
    assert what in finding.what


@pytest.mark.parametrize(
    ("rule", "key", "what"),
    [
        ('methods = ["GET", "PATCH"]', "signature", "neither POST nor PUT"),
        ("replay_body_bytes = 0", "replay_body_bytes", "the rule holds none"),
    ],
)
def test_a_rule_with_nothing_to_sign(tmp_path: Path, rule: str, key: str, what: str) -> None:
    """A signature that is never made is a mistake."""
    finding = one_finding(load_text(tmp_path, signed(rule=rule)))

    assert finding.key == f"routes.payments.{key}"
    assert what in finding.what


def test_the_key_of_a_credential_is_refused(tmp_path: Path) -> None:
    """A worker gets any digest signed: with that key, the digest of an assertion too."""
    more = f'[credentials.other]\nflavor = "jwt"\nclient_id = "i"\n{KEY}\ncertificate_file = "c.crt"\n'
    finding = one_finding(load_text(tmp_path, signed(more=more)))

    assert finding.key == "routes.payments.signature.private_key_file"
    assert 'credential "other" signs its client assertions with this key' in finding.what
    assert "payproxy keys new" in finding.fix


def test_a_table_of_its_own_belongs_to_the_rule_above_it(tmp_path: Path) -> None:
    """As TOML has it; what is wrong in it is found at its line."""
    text = plain(more='\n[routes.signature]\nprivate_key_file = "signature.key"\ncontent_type = "xml"\n')
    finding = one_finding(load_text(tmp_path, text))
    assert finding.key == "routes.payments.signature.content_type"
    assert text.splitlines()[finding.line - 1] == 'content_type = "xml"'
    settings = load_text(tmp_path, text.replace('"xml"', '"application/xml"')).settings

    assert settings is not None
    assert settings.routes[-1].signature.content_type == "application/xml"
