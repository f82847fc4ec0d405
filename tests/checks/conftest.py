from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.checks.support import Identity, identity, write
from tests.cli.serving import Site, site


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


@pytest.fixture(params=["jwt", "adfs"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    """A site with which everything is right: once modern, once legacy."""
    async with site(tmp_path, flavor=request.param) as made:
        yield made
