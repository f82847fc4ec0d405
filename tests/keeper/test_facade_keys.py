"""What the workers' facade finds on disk."""

from pathlib import Path

import pytest
from cryptography import x509

from proxy.callers.bearer import KEY_FILE
from proxy.credentials.keys import KeyUnusable
from proxy.entropy import SystemEntropy
from proxy.keeper.facade_keys import assertion_keys, make_signing_key, signing_key_files
from proxy.private_file import read_key
from proxy.settings.model import Settings
from tests.cli.serving import make_pair
from tests.settings.support import load_text, plain

CALLER = '\n[callers.erp]\nfacade_client_id = "CC-1"\nassertion_certificate_files = ["erp.crt"]\n'


def settings(folder: Path, facade: str, caller: str = CALLER) -> Settings:
    """Return the plain configuration with a *facade* and a *caller*."""
    loaded = load_text(folder, plain(more=facade + caller))
    assert loaded.settings is not None
    (folder / "payproxy-data").mkdir(exist_ok=True)
    return loaded.settings


async def test_the_key_is_made_once(tmp_path: Path) -> None:
    """For its owner only, as long as one needs to be, and left alone from then on."""
    its = settings(tmp_path, '[facade]\npaths = ["/oauth2/token"]\n')
    path = tmp_path / "payproxy-data" / KEY_FILE

    make_signing_key(its, entropy=SystemEntropy())
    made = path.read_bytes()
    make_signing_key(its, entropy=SystemEntropy())

    assert path.read_bytes() == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(made.decode())) == 32
    assert read_key(path, fewest=32) == made.strip()
    assert signing_key_files(its) == [str(path)]


async def test_no_key_is_made_that_is_not_needed(tmp_path: Path) -> None:
    """Without a facade, and where the configuration names keys."""
    for facade, files in (
        ("", []),
        ('[facade]\npaths = ["/oauth2/token"]\nsigning_key_files = ["a.key"]\n', [str(tmp_path / "a.key")]),
    ):
        its = settings(tmp_path, facade, CALLER if facade else "")
        make_signing_key(its, entropy=SystemEntropy())
        assert signing_key_files(its) == files
    assert not (tmp_path / "payproxy-data" / KEY_FILE).exists()


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"k" * 64, 0o640), (b"", 0o600)])
async def test_a_key_that_workers_could_not_use_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    """And never replaced silently: that would end all tokens."""
    its = settings(tmp_path, '[facade]\npaths = ["/oauth2/token"]\n')
    path = tmp_path / "payproxy-data" / KEY_FILE
    path.write_bytes(content)
    path.chmod(mode)

    with pytest.raises(OSError, match=str(path)):
        make_signing_key(its, entropy=SystemEntropy())
    assert path.read_bytes() == content


async def test_keys_are_read_out_of_certificates(tmp_path: Path) -> None:
    """By caller; one that can't be read is refused with its file's name."""
    certificate = x509.load_pem_x509_certificate(make_pair(tmp_path, "erp"))
    its = settings(tmp_path, '[facade]\npaths = ["/oauth2/token"]\n')

    [(modulus, exponent)] = assertion_keys(its)["erp"]

    assert exponent == 65537
    assert int(modulus, 16) == certificate.public_key().public_numbers().n  # type: ignore[union-attr]
    (tmp_path / "erp.crt").write_text("nonsense")
    with pytest.raises(KeyUnusable, match=r"erp\.crt"):
        assertion_keys(its)
