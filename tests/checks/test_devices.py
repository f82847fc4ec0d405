"""`check` of keys that are in a token or behind a program."""

from pathlib import Path

import pytest

from proxy.settings.findings import Finding, Severity
from tests.checks.support import JWT, Identity, found, write
from tests.support.softhsm import PIN, Token, faulty_module, needs_softhsm

KEY_FILE = 'private_key_file = "oauth.key"'


@pytest.fixture
def token(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Token:
    """A token with the key of oauth.crt."""
    (tmp_path / "hsm").mkdir()
    token = Token(tmp_path / "hsm")
    token.import_key(folder / "oauth.key", label="oauth")
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    return token


def checked(folder: Path, key: str) -> list[Finding]:
    """Return the findings with *key* in place of the file."""
    return found(folder, JWT.replace(KEY_FILE, key))


@needs_softhsm
def test_key_and_certificate_belong_together(folder: Path, token: Token, other: Identity) -> None:
    """The public halves are compared; a key in a token that can't be taken out is nothing to complain about."""
    uri = f'private_key_uri = "{token.uri()}"'
    assert checked(folder, uri) == []
    write(folder / "oauth.crt", other.certificate_pem)
    [finding] = checked(folder, uri)

    assert (finding.key, finding.severity) == ("credentials.login.private_key_uri", Severity.ERROR)
    assert 'token "payments", key "oauth": the certificate belongs to another key' in finding.what


@needs_softhsm
@pytest.mark.parametrize("place", ["file", "environment", "secrets directory", "nowhere"])
def test_where_the_pin_is(folder: Path, token: Token, place: str) -> None:
    """In one of the usual places for a secret."""
    key = f'private_key_uri = "{token.uri(pin=False)}"'
    environ: dict[str, str] = {}
    match place:
        case "file":
            key += f'\nprivate_key_pin_file = "{token.pin_file}"'
        case "environment":
            environ = {"PAYPROXY_CREDENTIALS__LOGIN__PRIVATE_KEY_PIN": PIN}
        case "secrets directory":
            write(token.folder / "credentials__login__private_key_pin", PIN.encode())
            environ = {"CREDENTIALS_DIRECTORY": str(token.folder)}
    findings = found(folder, JWT.replace(KEY_FILE, key), environ=environ)

    if place == "nowhere":
        assert "wants a PIN and none is configured" in findings[0].what
    else:
        assert findings == []


@needs_softhsm
@pytest.mark.parametrize(
    ("lines", "key", "what"),
    [
        ('private_key_pin = "4711"', "private_key_pin", "a secret must not be in this file"),
        ('private_key_pin_file = "gone"', "private_key_pin_file", "no such file"),
        ('private_key_file = "oauth.key"', "private_key_uri", "there is private_key_file too"),
        ('private_key_uri = "URI&pin-value=4711"', "private_key_uri", "holds a PIN (pin-value)"),
        ('private_key_pin_file = "pin"\nprivate_key_uri = "URI&pin-source=/pin"', "private_key_pin_file", "too"),
    ],
)
def test_what_is_written_wrongly(folder: Path, token: Token, lines: str, key: str, what: str) -> None:
    """Each is one finding at its key, and no PIN is in it."""
    uri = token.uri(pin=False)
    lines = lines.replace("URI", uri) if "URI" in lines else f'{lines}\nprivate_key_uri = "{uri}"'
    finding = next(one for one in checked(folder, lines) if one.key == f"credentials.login.{key}")

    assert what in finding.what
    assert "4711" not in str(finding)


@needs_softhsm
def test_a_token_that_is_away_is_a_warning(folder: Path, token: Token) -> None:
    """`serve` starts without it: its other credentials have nothing to do with it."""
    token.take_away()
    [finding] = checked(folder, f'private_key_uri = "{token.uri()}"')

    assert finding.severity is Severity.WARNING
    assert "the token is not there" in finding.what
    assert "until then mints of this credential fail and are tried again" in finding.fix


@needs_softhsm
def test_a_module_that_hangs_is_a_warning(folder: Path, token: Token, tmp_path: Path) -> None:
    """After four fifths of the credential's timeout."""
    token.fail("initialize hang")
    key = f'timeout = 1\nprivate_key_uri = "{token.uri(module=faulty_module(tmp_path))}"'
    [finding] = checked(folder, key)

    assert finding.severity is Severity.WARNING
    assert "did not answer in time" in finding.what


@needs_softhsm
def test_a_wrong_pin_is_an_error_and_tried_once(folder: Path, token: Token, tmp_path: Path) -> None:
    """What to do is said."""
    token.pin_file.write_text("0000")
    [finding] = checked(folder, f'private_key_uri = "{token.uri(module=faulty_module(tmp_path))}"')

    assert finding.severity is Severity.ERROR
    assert finding.what.endswith("the PIN is wrong")
    assert finding.fix == "correct the PIN (this one is not given to the token again: tokens lock)"
    assert token.logins == 1


@needs_softhsm
def test_a_pin_that_is_named_twice_is_not_tried(folder: Path, token: Token, tmp_path: Path) -> None:
    """One of the two may be wrong: that costs nothing before somebody has decided."""
    write(folder / "pin", b"0000")
    uri = token.uri(module=faulty_module(tmp_path))
    [finding] = checked(folder, f'private_key_uri = "{uri}"\nprivate_key_pin_file = "pin"')

    assert finding.what == "there is pin-source in private_key_uri too"
    assert token.logins == 0


@needs_softhsm
@pytest.mark.parametrize(
    ("pin", "what"),
    [
        (b"12\x0034", "has a control character or a line break"),
        (b"12\t34", "has a control character or a line break"),
        (b"1234\nother\n", "has more than one line"),
        (b"1234\n\n", "has more than one line"),
        (b"1" * 10_000, "has 10000 characters, which no PIN has"),
    ],
    ids=["NUL", "tab", "two lines", "empty line", "long"],
)
def test_what_is_no_pin_is_not_tried(folder: Path, token: Token, tmp_path: Path, pin: bytes, what: str) -> None:
    """A token would count it."""
    token.pin_file.write_bytes(pin)
    [finding] = checked(folder, f'private_key_uri = "{token.uri(module=faulty_module(tmp_path))}"')

    assert what in finding.what
    assert "alone into it" in finding.fix
    assert token.logins == 0


@needs_softhsm
def test_a_key_that_can_be_taken_out_is_a_warning(folder: Path, token: Token) -> None:
    """It is no safer than a file."""
    token.prepare(
        "session.generate_keypair(KeyType.RSA, 2048, store=True, label='loose',"
        " private_template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False})"
    )
    [finding] = [
        one
        for one in found(
            folder,
            JWT.replace(KEY_FILE, f'private_key_uri = "{token.uri("loose")}"').replace(
                'certificate_file = "oauth.crt"', 'key_id = "K"'
            ),
        )
        if "private_key_uri" in one.key
    ]

    assert finding.severity is Severity.WARNING
    assert "CKA_EXTRACTABLE" in finding.what
    assert "payproxy keys new --pkcs11" in finding.fix


def test_the_extra_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How to install it is said."""
    monkeypatch.setattr("proxy.credentials.pkcs11_device.find_spec", lambda _: None)
    [finding] = checked(folder, 'private_key_uri = "pkcs11:token=t;object=o?module-path=/m.so"')

    assert "python-pkcs11, which is not installed" in finding.what
    assert "pkcs11" in finding.fix


@pytest.mark.parametrize(
    ("mode", "what"),
    [(0o755, ""), (0o775, "others may change it"), (0o757, "others may change it"), (0o644, "is no program")],
)
def test_a_program_that_signs(folder: Path, tmp_path: Path, mode: int, what: str) -> None:
    """Who may write it may have anything signed."""
    (tmp_path / "bin").mkdir(mode=0o755)
    program = write(tmp_path / "bin" / "sign", b"#!/bin/sh\n", mode=mode)
    findings = checked(folder, f'signer_command = ["{program}"]')

    assert [one.key for one in findings] == (["credentials.login.signer_command"] if what else [])
    assert all(what in one.what for one in findings)


def test_a_program_without_a_certificate(folder: Path, tmp_path: Path) -> None:
    """Its signatures could not be verified."""
    program = write(tmp_path / "sign", b"#!/bin/sh\n", mode=0o755)
    text = JWT.replace(KEY_FILE, f'signer_command = ["{program}"]')
    findings = found(folder, text.replace('certificate_file = "oauth.crt"', 'key_id = "K"'))

    assert ("credentials.login.certificate_file", "signer_command needs a certificate") in [
        (one.key, one.what) for one in findings
    ]


@needs_softhsm
def test_a_key_for_bodies_in_a_token(folder: Path, token: Token) -> None:
    """It is opened as one of a credential is, and must not be one."""
    text = f'{JWT}\nsignature = {{private_key_uri = "{token.uri()}"}}\n'
    [finding] = found(folder, text)
    assert finding.key == "routes.payments.signature.private_key_uri"
    assert 'credential "login" signs its client assertions with this key' in finding.what
    [finding] = found(folder, text.replace("object=oauth", "object=other"))

    assert "the token has no such private key" in finding.what
