"""Both sides of a migration are asked, before anything moves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.simulator.clients import AUDIENCES, JWT_CLIENT_ID, RESOURCES
from tests.checks.asking import asked, blamed
from tests.cli.serving import Site, make_pair, site


@pytest.fixture
async def moving(tmp_path: Path) -> AsyncIterator[Site]:
    """A legacy site whose one rule can move to a modern credential, which the bank knows too."""
    async with site(tmp_path, flavor="adfs") as made:
        made.bank.world.register_jwt_client(JWT_CLIENT_ID, make_pair(tmp_path, "modern"))
        made.config.write_text(
            made.config.read_text()
            + f'[credentials.modern]\nflavor = "jwt"\nclient_id = "{JWT_CLIENT_ID}"\n'
            + 'private_key_file = "modern.key"\ncertificate_file = "modern.crt"\n'
            + f'token_url = "{made.bank.url}/oauth2/token"\n'
            + '[migrations.move]\nroutes = ["payments"]\n'
            + f'legacy = {{ credential = "login", audience = "{RESOURCES["payments"]}" }}\n'
            + f'modern = {{ credential = "modern", audience = "{AUDIENCES["payments"]}" }}\n'
        )
        yield made


async def test_both_sides_mint_and_greet(moving: Site) -> None:
    """Each token once, and the API is called with each of them."""
    found = await asked(moving, call_too=True)
    text = "\n".join(found.notes)

    assert found.findings == []
    assert moving.bank.world.mint_count() == 2
    assert "with login through route payments: 200" in text
    assert "with modern through route payments: 200" in text
    assert len({one.token_fingerprint for one in moving.bank.world.seen("/payment/helloworld")}) == 2


async def test_a_modern_audience_that_is_refused(moving: Site) -> None:
    """It is laid at the side that asks for it, while nothing has moved."""
    moving.config.write_text(moving.config.read_text().replace(f'"{AUDIENCES["payments"]}"', '"jpm:uri:none"'))
    key, text = await blamed(moving)

    assert key == "migrations.move.modern.audience"
    assert "jpm:uri:none" in text
