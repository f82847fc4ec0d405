from pathlib import Path

import pytest

from proxy.credentials.inspection import inspect
from tests.credentials.support_keys import make_pair, openssl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key, certificate and request of one key."""
    folder = tmp_path_factory.mktemp("inspection")
    make_pair(folder)
    openssl("req", "-new", "-key", folder / "oauth.key", "-subj", "/CN=req", "-out", folder / "oauth.csr")
    return folder


def test_kind_bits_and_subject(folder: Path) -> None:
    """Each file is what it is, and all three carry one identity."""
    found = [inspect(folder / name) for name in ("oauth.key", "oauth.crt", "oauth.csr")]
    assert [each.kind for each in found] == ["private key", "certificate", "certificate signing request"]
    assert [each.bits for each in found] == [2048, 2048, 2048]
    assert [each.subject for each in found] == ["", "CN=oauth", "CN=req"]
    assert [bool(each.thumbprints) for each in found] == [False, True, False]
    assert len({each.identity for each in found}) == 1
    assert not any(each.problem for each in found)


def test_key_that_may_not_be_used_is_a_problem(tmp_path: Path) -> None:
    """An EC key is read as nothing and named; its certificate is still a certificate, without RSA bits."""
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ec"),
        *("-keyout", tmp_path / "ec.key", "-out", tmp_path / "ec.crt"),
    )
    (tmp_path / "ec.key").chmod(0o600)
    key, certificate = inspect(tmp_path / "ec.key"), inspect(tmp_path / "ec.crt")
    assert (key.kind, key.identity) == ("", b"")
    assert "not RSA" in key.problem
    assert (certificate.kind, certificate.problem, certificate.bits) == ("certificate", "", 0)


def test_damaged_half_of_two_is_a_problem(folder: Path, tmp_path: Path) -> None:
    """A file with a good key and a broken certificate is a key with a problem; a broken key is named first."""
    key, certificate = (folder / "oauth.key").read_text(), (folder / "oauth.crt").read_text()
    both = tmp_path / "both.pem"
    both.touch(mode=0o600)
    both.write_text(key + certificate[:200])
    assert (inspect(both).kind, "certificate is damaged" in inspect(both).problem) == ("private key", True)
    both.write_text(certificate + key[:200] + "\n-----END PRIVATE KEY-----\n")
    assert "private key is damaged" in inspect(both).problem


def test_forged_request_is_a_problem(folder: Path, tmp_path: Path) -> None:
    """A request whose own signature is wrong is refused."""
    der = tmp_path / "oauth.der"
    openssl("req", "-in", folder / "oauth.csr", "-outform", "DER", "-out", der)
    data = bytearray(der.read_bytes())
    data[-1] ^= 1
    der.write_bytes(data)
    openssl("req", "-inform", "DER", "-in", der, "-out", tmp_path / "forged.csr")
    assert "damaged" in inspect(tmp_path / "forged.csr").problem
