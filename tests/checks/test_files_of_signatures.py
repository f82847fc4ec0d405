"""`check` of the files of a key for bodies."""

from pathlib import Path

import pytest

from proxy.settings.findings import Severity
from tests.checks.support import JWT, NOW, Identity, found, identity, write

SIGNED = f'{JWT}\nsignature = {{private_key_file = "signature.key", certificate_file = "signature.crt"}}\n'
AT = "routes.payments.signature"


@pytest.fixture
def signed(folder: Path, other: Identity) -> Path:
    """The folder, with a key for bodies and its certificate too."""
    write(folder / "signature.key", other.key_pem())
    write(folder / "signature.crt", other.certificate_pem)
    return folder


def test_a_key_of_its_own_is_nothing_to_complain_about(signed: Path) -> None:
    """Both files are there, belong together, and are nobody else's."""
    assert found(signed, SIGNED) == []


@pytest.mark.parametrize(
    ("name", "key"), [("signature.key", "private_key_file"), ("signature.crt", "certificate_file")]
)
def test_a_file_that_can_not_be_used(signed: Path, name: str, key: str) -> None:
    """What, where, how: as of a credential."""
    write(signed / name, b"nonsense")
    [finding] = found(signed, SIGNED)

    assert (finding.key, finding.severity) == (f"{AT}.{key}", Severity.ERROR)
    assert "is neither PEM nor PKCS#12" in finding.what


def test_a_key_that_others_may_read(signed: Path) -> None:
    """It is refused, with the command that mends it."""
    (signed / "signature.key").chmod(0o644)
    [finding] = found(signed, SIGNED)

    assert finding.key == f"{AT}.private_key_file"
    assert "group or others may read it" in finding.what
    assert "chmod" in finding.fix


def test_certificate_and_key_do_not_belong_together(signed: Path) -> None:
    """The bank would refuse every body."""
    write(signed / "signature.crt", identity().certificate_pem)
    [finding] = found(signed, SIGNED)

    assert finding.key == f"{AT}.certificate_file"
    assert "another key" in finding.what


def test_the_certificate_expires(signed: Path, other: Identity) -> None:
    """It is said in time."""
    write(signed / "signature.crt", identity(key=other.key, ends=NOW + 5 * 86400).certificate_pem)
    [finding] = found(signed, SIGNED)

    assert (finding.key, finding.severity) == (f"{AT}.certificate_file", Severity.WARNING)
    assert "in 5 days" in finding.what


def test_a_copy_of_a_credentials_key(signed: Path) -> None:
    """Under another name it is the same key."""
    for kind in ("key", "crt"):
        write(signed / f"signature.{kind}", (signed / f"oauth.{kind}").read_bytes())
    [finding] = found(signed, SIGNED)

    assert finding.key == f"{AT}.private_key_file"
    assert 'credential "login" signs its client assertions with this key' in finding.what
