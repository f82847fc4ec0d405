from pathlib import Path

import pytest

from tests.checks.support import Identity, identity, write


@pytest.fixture(scope="session")
def mine() -> Identity:
    """An identity that all tests share: making a key takes a while."""
    return identity()


@pytest.fixture(scope="session")
def other() -> Identity:
    """Another one."""
    return identity()


@pytest.fixture
def folder(tmp_path: Path, mine: Identity) -> Path:
    """A folder with the key and certificate that the configuration names."""
    write(tmp_path / "oauth.key", mine.key_pem())
    write(tmp_path / "oauth.crt", mine.certificate_pem, mode=0o644)
    return tmp_path
