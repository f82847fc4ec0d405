import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from proxy.settings.findings import Finding, Severity
from tests.checks.support import JWT, NOW, Identity, found, identity, write

DAY = 86400
BASIC = JWT.replace("jwt", "basic").replace(
    'private_key_file = "oauth.key"\ncertificate_file = "oauth.crt"', 'client_secret_file = "secret"'
)


def only(findings: list[Finding]) -> Finding:
    """Return the only finding."""
    assert len(findings) == 1, "\n".join(map(str, findings)) or "no findings"
    return findings[0]


def test_good_files(folder: Path) -> None:
    """A key of mode 0600 and its certificate are nothing to complain about."""
    assert found(folder, JWT) == []


def test_missing_files(folder: Path) -> None:
    """Both are named, each on its line."""
    (folder / "oauth.key").unlink()
    (folder / "oauth.crt").unlink()
    findings = found(folder, JWT)

    assert [(one.line, one.key) for one in findings] == [
        (7, "credentials.login.private_key_file"),
        (8, "credentials.login.certificate_file"),
    ]
    assert all("no such file" in one.what and one.severity is Severity.ERROR for one in findings)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read(folder: Path, mode: int) -> None:
    """A private key is its owner's alone."""
    (folder / "oauth.key").chmod(mode)
    finding = only(found(folder, JWT))

    assert finding.key == "credentials.login.private_key_file"
    assert "group or others" in finding.what
    assert "chmod 600" in finding.fix


def test_a_certificate_of_another_key(folder: Path, other: Identity) -> None:
    """Key and certificate have to belong together, or every assertion is refused."""
    write(folder / "oauth.crt", other.certificate_pem)
    finding = only(found(folder, JWT))

    assert (finding.key, finding.severity) == ("credentials.login.certificate_file", Severity.ERROR)
    assert finding.what == "the certificate belongs to another key than private_key_file"


def test_a_key_in_place_of_the_certificate(folder: Path, mine: Identity) -> None:
    """Swapped files are recognised, and nothing of the key is said."""
    write(folder / "oauth.crt", mine.key_pem())
    finding = only(found(folder, JWT))

    assert "holds a private key, not a certificate" in finding.what
    assert mine.key_pem().decode().splitlines()[1] not in str(finding)


@pytest.mark.parametrize(
    ("ends", "what"),
    [
        (NOW - 1, "the certificate expired on 2027-01-15"),
        (NOW + 29 * DAY, "the certificate expires on 2027-02-13, in 29 days"),
        (NOW + 30 * DAY, ""),
    ],
)
def test_expiry(folder: Path, mine: Identity, ends: float, what: str) -> None:
    """An expired certificate, or one that ends within 30 days, is a warning."""
    write(folder / "oauth.crt", identity(key=mine.key, ends=ends).certificate_pem)
    findings = found(folder, JWT)

    assert [(one.what, one.severity) for one in findings] == ([(what, Severity.WARNING)] if what else [])


@pytest.mark.parametrize(
    ("left", "words"),
    [(29 * DAY + 82800, "in 29 days"), (DAY, "in 1 day"), (82800, "in 23 hours"), (75, "in 1 minute")],
)
def test_what_is_left_of_a_certificate(folder: Path, mine: Identity, left: float, words: str) -> None:
    """In the words of the log, with the command that makes the next one."""
    write(folder / "oauth.crt", identity(key=mine.key, ends=NOW + left).certificate_pem)
    finding = only(found(folder, JWT))

    assert finding.what.endswith(words)
    assert finding.fix == "`payproxy keys renew login`, before this one expires"


def test_an_expiring_certificate_of_a_key_for_bodies(folder: Path, other: Identity) -> None:
    """The command for its rule says how."""
    write(folder / "sign.key", other.key_pem())
    write(folder / "sign.crt", identity(key=other.key, ends=NOW + DAY).certificate_pem)
    signature = '\n[routes.signature]\nprivate_key_file = "sign.key"\ncertificate_file = "sign.crt"\n'

    assert only(found(folder, JWT + signature)).fix == (
        "`payproxy keys renew payments` says how, before this one expires"
    )


def test_not_valid_yet(folder: Path, mine: Identity) -> None:
    """A certificate from the future points at this machine's clock."""
    write(folder / "oauth.crt", identity(key=mine.key, begins=NOW + 60).certificate_pem)

    assert only(found(folder, JWT)).what == "the certificate is not valid yet"


def test_an_encrypted_key(folder: Path, mine: Identity) -> None:
    """It needs a passphrase file that is private too and holds the right passphrase."""
    write(folder / "oauth.key", mine.key_pem(passphrase=b"canary"))
    assert "is encrypted" in only(found(folder, JWT)).what

    text = JWT.replace("flavor", 'private_key_passphrase_file = "pass"\nflavor', 1)
    assert "no such file" in only(found(folder, text)).what

    write(folder / "pass", b"canary\n")
    assert found(folder, text) == []

    write(folder / "pass", b"canary\n", mode=0o644)
    finding = only(found(folder, text))
    assert (finding.key, finding.what) == (
        "credentials.login.private_key_passphrase_file",
        "group or others may read it (mode 0644)",
    )

    write(folder / "pass", b"wrong-canary\n")
    finding = only(found(folder, text))
    assert "can't be decrypted" in finding.what
    assert "canary" not in str(finding)


def test_a_pkcs12_file_for_both(folder: Path, mine: Identity) -> None:
    """Key and certificate may come from one .p12."""
    assert not isinstance(mine.key, ec.EllipticCurvePrivateKey)
    cipher = serialization.BestAvailableEncryption(b"canary")
    write(folder / "oauth.p12", pkcs12.serialize_key_and_certificates(b"x", mine.key, mine.certificate, None, cipher))
    write(folder / "pass", b"canary")
    text = JWT.replace("oauth.key", "oauth.p12").replace("oauth.crt", "oauth.p12")

    assert found(folder, text.replace("flavor", 'private_key_passphrase_file = "pass"\nflavor', 1)) == []


BASIC = (
    JWT.replace('"jwt"', '"basic"')
    .replace('private_key_file = "oauth.key"\n', "")
    .replace('certificate_file = "oauth.crt"', 'client_secret_file = "secret"')
)


@pytest.mark.parametrize(
    ("data", "mode", "what"),
    [
        (b"canary\n", 0o600, ""),
        (b"canary", 0o640, "group or others may read it (mode 0640)"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"canary\xff", 0o600, "is no UTF-8 text"),
        (b"canary" * 20000, 0o600, "is larger than 65536 bytes"),
    ],
    ids=["good", "exposed", "nothing", "newline", "latin-1", "large"],
)
def test_a_secret_file(folder: Path, data: bytes, mode: int, what: str) -> None:
    """A client secret's file is private, short and holds something."""
    write(folder / "secret", data, mode=mode)
    findings = found(folder, BASIC)

    assert [one.what for one in findings] == [what] * bool(what)
    assert "canary" not in str(findings)


def test_a_secret_file_that_nobody_reads(folder: Path) -> None:
    """With the secret from the environment the file need not be there."""
    assert "no such file" in only(found(folder, BASIC)).what
    assert found(folder, BASIC, environ={"PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": "x"}) == []


def test_a_directory_is_no_file(folder: Path) -> None:
    """A mount that went wrong leaves a directory where the file should be."""
    (folder / "secret").mkdir()

    assert only(found(folder, BASIC)).what == "is not a regular file"


SERVER = '[server]\ncertificate_file = "server.crt"\nkey_file = "server.key"\n'


def test_a_listeners_identity(folder: Path, mine: Identity, other: Identity) -> None:
    """An elliptic key will do for TLS; it has to be private and the certificate's, and its end is watched."""
    own = identity(key=ec.generate_private_key(ec.SECP256R1()), ends=NOW + DAY)
    write(folder / "server.crt", own.certificate_pem)
    write(folder / "server.key", own.key_pem())
    finding = only(found(folder, JWT + SERVER))
    assert (finding.key, finding.severity) == ("server.certificate_file", Severity.WARNING)

    write(folder / "server.crt", mine.certificate_pem)
    write(folder / "server.key", other.key_pem())
    finding = only(found(folder, JWT + SERVER))
    assert (finding.key, finding.what) == ("server.key_file", "the key does not belong to certificate_file")

    write(folder / "server.key", mine.key_pem(), mode=0o644)
    assert only(found(folder, JWT + SERVER)).what == "group or others may read it (mode 0644)"

    write(folder / "server.key", mine.key_pem(passphrase=b"canary"))
    finding = only(found(folder, JWT + SERVER))
    assert finding.what == "is no usable, unencrypted PEM key"

    write(folder / "server.key", b"nonsense")
    assert only(found(folder, JWT + SERVER)).what == "is no usable, unencrypted PEM key"


@pytest.mark.parametrize("table", ["upstreams.payments", "credentials.login"])
def test_a_client_certificate(folder: Path, other: Identity, mine: Identity, table: str) -> None:
    """The certificate of an upstream or a token endpoint fits its key."""
    text = JWT.replace(f"[{table}]\n", f'[{table}]\nclient_certificate_file = "tls.crt"\nclient_key_file = "tls.key"\n')
    write(folder / "tls.crt", other.certificate_pem)
    write(folder / "tls.key", other.key_pem())
    assert found(folder, text) == []

    write(folder / "tls.key", mine.key_pem())
    finding = only(found(folder, text))
    assert (finding.key, finding.what) == (
        f"{table}.client_key_file",
        "the key does not belong to client_certificate_file",
    )


@pytest.mark.parametrize("table", ["upstreams.payments", "credentials.login"])
def test_a_private_ca(folder: Path, other: Identity, table: str) -> None:
    """A CA file is there, holds certificates and none of them has expired."""
    text = JWT.replace(f"[{table}]\n", f'[{table}]\nca_file = "ca.crt"\n')
    assert only(found(folder, text)).what == "no such file"

    write(folder / "ca.crt", b"nonsense")
    assert only(found(folder, text)).what == "holds no PEM certificates"

    write(folder / "ca.crt", other.certificate_pem + identity(key=other.key, ends=NOW - DAY).certificate_pem)
    finding = only(found(folder, text))
    assert (finding.key, finding.severity) == (f"{table}.ca_file", Severity.WARNING)

    write(folder / "ca.crt", other.certificate_pem, mode=0o644)
    assert found(folder, text) == []


@pytest.mark.parametrize(
    ("secret", "severity", "what"),
    [
        (b"s3cret\n", None, ""),
        (b"\xef\xbb\xbfs3cret\n", Severity.ERROR, "begins with a byte order mark"),
        ("s3cret\n".encode("utf-16"), Severity.ERROR, "is no UTF-8 text"),
        (b"<YOUR CLIENT SECRET>\n", Severity.ERROR, "a placeholder was left in"),
        (b"s3cret\nmore\n", Severity.ERROR, "has more than one line"),
        (b"czNjcmV0LWNhbmFyeS0x", Severity.WARNING, "is base64 of another text"),
        (b"czNjcmV0LWNhbmFyeQo=\n", Severity.WARNING, "is base64 of another text"),
        (b'"s3cret"\n', Severity.WARNING, "has white space or quotes around it"),
        (b"q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ", None, ""),
    ],
)
def test_how_a_secret_was_written_down(folder: Path, secret: bytes, severity: Severity | None, what: str) -> None:
    """What an editor or a Kubernetes Secret has made of it is said before the bank says invalid_client."""
    write(folder / "secret", secret)
    findings = found(folder, BASIC)

    assert [one.severity for one in findings] == ([severity] if severity else [])
    assert all(one.what.startswith(what) and "s3cret" not in str(one) for one in findings)


def test_a_secret_from_the_environment_is_looked_at_too(folder: Path) -> None:
    """Where it is from is where the finding stands."""
    environ = {"PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET": "czNjcmV0LWNhbmFyeQo="}
    finding = only(found(folder, BASIC.replace('client_secret_file = "secret"\n', ""), environ=environ))

    assert (finding.severity, "base64" in finding.what) == (Severity.WARNING, True)
    assert "CLIENT_SECRET" in finding.file


def test_a_certificate_in_place_of_a_key(folder: Path, mine: Identity) -> None:
    """Of the bank's key and of a TLS listener's it is said what the file holds and which one is wanted."""
    write(folder / "oauth.key", mine.certificate_pem)
    write(folder / "tls.crt", mine.certificate_pem)
    tls = '[server]\ncertificate_file = "tls.crt"\nkey_file = "tls.crt"\n'
    own, listener = found(folder, JWT + tls)

    assert own.what.endswith("holds a certificate, not a private key")
    assert (listener.key, listener.what) == ("server.key_file", "holds a certificate, not a private key")
    assert "the key that belongs to certificate_file" in listener.fix


EVERY_FILE = """\
environment = "client-testing"
[server]
listen = "127.0.0.1:8080"
certificate_file = "pipe"
key_file = "pipe"
client_ca_file = "pipe"
[admin]
certificate_file = "pipe"
key_file = "pipe"
[upstreams.payments]
url = "https://api.payments.jpmorgan.com"
ca_file = "pipe"
client_certificate_file = "pipe"
client_key_file = "pipe"
[credentials.login]
flavor = "jwt"
client_id = "my-client"
private_key_file = "pipe"
certificate_file = "pipe"
ca_file = "pipe"
client_certificate_file = "pipe"
client_key_file = "pipe"
[credentials.locked]
flavor = "jwt"
client_id = "other"
private_key_file = "oauth.key"
private_key_passphrase_file = "pipe"
certificate_file = "oauth.crt"
[credentials.basic]
flavor = "basic"
client_id = "third"
client_secret_file = "pipe"
[[routes]]
name = "payments"
path = "/payment"
upstream = "payments"
credential = "login"
[callers.erp]
networks = ["10.0.0.0/8"]
facade_client_id = "erp"
assertion_certificate_files = ["pipe"]
[facade]
paths = ["/oauth2/token"]
signing_key_files = ["pipe"]
[request_log]
body_hmac_key_file = "pipe"
database_file = "pipe"
[state]
url_file = "pipe"
ca_file = "pipe"
encryption_key_files = ["pipe"]
"""


def test_a_pipe_in_place_of_any_file_is_refused_at_once(folder: Path) -> None:
    """Whichever key names it, `check` and the start wait for no writer, and each finding has its own line."""
    os.mkfifo(folder / "pipe", 0o600)
    findings = [one for one in found(folder, EVERY_FILE) if one.severity is Severity.ERROR]

    lines = [at for at, line in enumerate(EVERY_FILE.splitlines(), 1) if '"pipe"' in line]
    assert [one.line for one in findings] == lines
    assert all("is not a regular file" in one.what for one in findings)
