"""The shell blocks of docs/hsm.md, run as they stand: with SoftHSM2, and with a server that answers as Vault does."""

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.clock import SystemClock
from proxy.credentials.command_device import CommandDevice
from proxy.credentials.keys import KeyUnusable, load_certificate, load_private_key
from proxy.credentials.remote_key import RemoteKey
from proxy.credentials.signing_key import remote_key
from tests.credentials.support_keys import make_pair
from tests.support.softhsm import needs_softhsm
from tests.test_readme_walk import block, run


@needs_softhsm
def test_a_key_is_made_in_a_token_as_the_page_says(tmp_path: Path) -> None:
    """From nothing to a certificate whose key is in SoftHSM2."""
    printed = run(block("hsm.md", "hsm"), tmp_path)

    assert "private key (RSA 2048)" in printed
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["oauth.crt"]


class Vault:
    """Answers as the transit engine of Vault does (its API documentation), whoever has the right header."""

    def __init__(self, key: Path) -> None:
        self.asked: list[dict[str, Any]] = []
        self._key = load_private_key(key)

    async def sign(self, request: web.Request) -> web.Response:
        """Sign the input."""
        asked = json.loads(await request.read())
        self.asked.append(asked)
        if request.headers.get("X-Vault-Token") != "hvs.of-the-test":
            return web.json_response({"errors": ["permission denied"]}, status=403)
        signature = self._key.sign(base64.b64decode(asked["input"]), PKCS1v15(), SHA256())
        text = f"vault:v1:{base64.b64encode(signature).decode()}"
        return web.Response(text=json.dumps({"request_id": "r", "data": {"key_version": 1, "signature": text}}))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_vault_signs_as_the_page_says(tmp_path: Path) -> None:
    """The program on the page, with the address of the test's server."""
    key, certificate = make_pair(tmp_path)
    vault = Vault(key)
    application = web.Application()
    application.router.add_post("/v1/transit/sign/payproxy/sha2-256", vault.sign)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        header = tmp_path / "vault.header"
        header.write_text("X-Vault-Token: hvs.of-the-test\n")
        script = block("hsm.md", "vault")
        for there, here in (
            ("https://vault.internal.example:8200", f"http://127.0.0.1:{port}"),
            ("/etc/payproxy/vault.header", str(header)),
        ):
            assert there in script
            script = script.replace(there, here)
        signer = _program(tmp_path / "sign", script, certificate)
        signature = await _signed(signer)
        assert len(signature) == 256
        assert vault.asked == [{"input": "aGVhZGVyLmNsYWltcw==", "signature_algorithm": "pkcs1v15"}]

        header.write_text("X-Vault-Token: wrong\n")
        with pytest.raises(KeyUnusable, match="printed nothing; run it by hand"):
            await _signed(signer)
    finally:
        await runner.cleanup()


def _program(path: Path, script: str, certificate: Path) -> RemoteKey:
    path.write_text(f"{script}\n")
    path.chmod(0o755)
    public = load_certificate(certificate).public_key()
    assert isinstance(public, RSAPublicKey)
    return remote_key(CommandDevice([str(path)], public=public, seconds=60, clock=SystemClock()), name="vault")


async def _signed(key: RemoteKey) -> bytes:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(key.executor, key.sign, b"header.claims", PKCS1v15(), SHA256())
