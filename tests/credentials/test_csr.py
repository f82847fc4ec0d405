from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.credentials.csr import (
    EXAMPLE_SUBJECT,
    Subject,
    SubjectInvalid,
    key_pem,
    new_key,
    public_pem,
    self_signed,
    signing_request,
)
from proxy.credentials.keys import belong_together, load_certificate, load_private_key
from proxy.entropy import SystemEntropy
from tests.credentials.support_keys import openssl

NOW = 1_800_000_000.0
SUBJECT = Subject(
    country="US",
    state="New York",
    locality="New York",
    organization="Example Inc",
    unit="Treasury",
    common_name="payproxy-client-testing",
)


def test_example_is_itself_acceptable() -> None:
    """The subject that help and messages show is read as all six fields."""
    assert Subject.parse(EXAMPLE_SUBJECT) == SUBJECT


@pytest.mark.parametrize(
    "text",
    [
        "/C=US/ST=New York/L=New York/O=Example Inc/OU=Treasury/CN=payproxy-client-testing",
        "CN=payproxy-client-testing,OU=Treasury,O=Example Inc,L=New York,ST=New York,C=US",
        "c=US , st = New York, l=New York, o=Example Inc, ou=Treasury, cn=payproxy-client-testing",
    ],
)
def test_both_spellings_are_read(text: str) -> None:
    """Openssl's slashes and the commas of RFC 4514 mean the same, in any order and case of the names."""
    assert Subject.parse(text) == SUBJECT


def test_backslash_keeps_a_separator() -> None:
    """A comma, slash or backslash within a value survives."""
    commas = Subject.parse(r"C=US,ST=NY,L=NY,O=Miller\, Sons/Co,OU=a\\b,CN=x")
    slashes = Subject.parse(r"/C=US/ST=NY/L=NY/O=Miller, Sons\/Co/OU=a\\b/CN=x")
    assert commas == slashes
    assert commas.organization == "Miller, Sons/Co"
    assert commas.unit == r"a\b"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("C=US,ST=NY,L=NY,O=E,CN=x", "OU is missing"),
        ("C=US,ST=NY,L=NY,O=E,OU= ,CN=x", "OU is missing or empty"),
        ("C=us,ST=NY,L=NY,O=E,OU=T,CN=x", "upper-case"),
        ("C=USA,ST=NY,L=NY,O=E,OU=T,CN=x", "C is longer than 2"),
        (f"C=US,ST=NY,L=NY,O=E,OU=T,CN={'x' * 65}", "CN is longer than 64"),
        ("C=US,C=US,ST=NY,L=NY,O=E,OU=T,CN=x", "C is given twice"),
        ("C=US,ST=NY,L=NY,O=E,OU=T,CN=x,emailAddress=a@b", "none of C="),
        ("C=US,ST=NY,L=NY,O=E,OU=T,CN=x\n", ""),
        ("C=US,ST=NY,L=N\x1bY,O=E,OU=T,CN=x", "control character"),
        ("", "none of C="),
    ],
)
def test_what_the_bank_would_send_back_is_refused(text: str, complaint: str) -> None:
    """Each missing, empty, long, doubled or foreign field is named; surrounding space is no fault."""
    if not complaint:
        assert Subject.parse(text).common_name == "x"
        return
    with pytest.raises(SubjectInvalid, match=complaint):
        Subject.parse(text)


def test_openssl_verifies_the_request(tmp_path: Path) -> None:
    """Openssl finds the request's own signature right, all six fields in it, and the key's 2048 bits."""
    path = tmp_path / "oauth.csr"
    path.write_bytes(public_pem(signing_request(new_key(), SUBJECT)))

    text = openssl("req", "-in", path, "-noout", "-verify", "-text", "-nameopt", "oneline")

    assert "C = US, ST = New York, L = New York, O = Example Inc, OU = Treasury, CN = payproxy-client-testing" in text
    assert "(2048 bit)" in text
    assert "sha256WithRSAEncryption" in text


def test_openssl_verifies_the_certificate(tmp_path: Path) -> None:
    """Openssl accepts the certificate as its own issuer at its time, for signatures and not as an authority."""
    path = tmp_path / "oauth.crt"
    path.write_bytes(public_pem(self_signed(new_key(), SUBJECT, now=NOW, entropy=SystemEntropy())))

    checked = openssl("verify", "-attime", str(int(NOW)), "-CAfile", path, "-check_ss_sig", path)
    text = openssl("x509", "-in", path, "-noout", "-text")

    assert checked.strip().endswith("OK")
    assert "CA:FALSE" in text
    assert "Digital Signature" in text
    assert "Certificate Sign" not in text


def test_certificate_is_valid_from_just_before_now_for_a_year() -> None:
    """The validity comes from the clock that was passed in; two certificates differ in their serial numbers."""
    key = new_key()
    first, second = (self_signed(key, SUBJECT, now=NOW, entropy=SystemEntropy()) for _ in range(2))
    now = datetime.fromtimestamp(NOW, UTC)
    assert timedelta(0) < now - first.not_valid_before_utc <= timedelta(minutes=5)
    assert first.not_valid_after_utc - now == timedelta(days=365)
    assert first.serial_number != second.serial_number


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """The key's PEM is PKCS#8, readable by our own loader and by openssl, and belongs to the certificate."""
    key = new_key()
    pem, certificate = tmp_path / "oauth.key", tmp_path / "oauth.crt"
    pem.touch(mode=0o600)
    pem.write_bytes(key_pem(key))
    certificate.write_bytes(public_pem(self_signed(key, SUBJECT, now=NOW, entropy=SystemEntropy())))

    assert pem.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert "RSA key ok" in openssl("rsa", "-in", pem, "-check", "-noout")
    assert belong_together(load_private_key(pem), load_certificate(certificate))
