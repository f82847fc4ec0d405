import asyncio
import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.simulator.clients import AUDIENCES
from proxy.simulator.server import Bank
from tests.credentials.support_keys import make_pair
from tests.journeys.caller import ask, payment
from tests.journeys.conftest import Start
from tests.journeys.memory import found_in_memory
from tests.journeys.process import Instance
from tests.journeys.support import TOKEN_PATH, configured
from tests.journeys.waiting import until

CLIENT = "keys-stay"
SECRET = "s3cr3t-of-the-keeper-alone-9f1b"

# The secret comes from the environment, which is where a worker could most easily get it from.
_BASIC = f"""\
flavor = "basic"
client_id = "{CLIENT}"
token_url = "{{bank}}{TOKEN_PATH}"
"""

_JWT = """\
flavor = "jwt"
client_id = "{client}"
token_url = "{bank}/oauth2/token"
private_key_file = "{key}"
certificate_file = "{certificate}"
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="reading the memory of other processes needs root")


async def test_no_worker_has_the_client_secret(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The secret is in the keeper's memory and environment, and in no worker's memory, environment or arguments."""
    bank.world.register_secret_client(CLIENT, SECRET)
    configuration = configured(
        tmp_path, bank.url, server="workers = 2", credential=_BASIC.format(bank=bank.url), secret="unused"
    )
    instance = await start(configuration, env={"PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRET": SECRET})
    await _serve_and_heal(instance, bank)

    basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode())
    await _only_the_keeper_has(instance, [SECRET.encode(), basic, base64.b64encode(SECRET.encode())[:-4]])


async def test_no_worker_has_the_private_key(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The key's primes and exponent are in the keeper's memory; neither they nor its PEM are in any worker's."""
    key_file, certificate = make_pair(tmp_path)
    bank.world.register_jwt_client(CLIENT, certificate.read_bytes())
    configuration = configured(
        tmp_path,
        bank.url,
        server="workers = 2",
        credential=_JWT.format(bank=bank.url, client=CLIENT, key=key_file, certificate=certificate),
        route=f'audience = "{AUDIENCES["payments"]}"',
    )
    instance = await start(configuration)
    await _serve_and_heal(instance, bank)

    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    # OpenSSL keeps numbers as words of the machine, DER as bytes from the highest on.
    secrets = [
        number.to_bytes(size, order)
        for number, size in ((numbers.p, 128), (numbers.q, 128), (numbers.d, 256))
        for order in ("little", "big")
    ]
    # A line of the PEM is base64 of the DER, which a worker may hold as text or not at all.
    secrets += [line.encode() for line in key_file.read_text().splitlines()[2:-1]]
    await _only_the_keeper_has(instance, secrets)


async def _serve_and_heal(instance: Instance, bank: Bank) -> None:
    """Let every worker do all that it does: forward, be refused, ask for a mint, send again."""

    async def both() -> bool:
        return len(await instance.serving()) == 2

    await until(both, otherwise="two workers did not serve")
    bank.world.tokens.revoke()
    answers = await asyncio.gather(*(ask(instance.address, payment(f"order-{number}")) for number in range(40)))
    assert {answer.status for answer in answers} == {201}


async def _only_the_keeper_has(instance: Instance, secrets: list[bytes]) -> None:
    workers = await instance.serving()
    assert len(workers) == 2
    assert found_in_memory(instance.pid, secrets), "the search does not find what is there"
    for pid in workers:
        assert found_in_memory(pid, [b"/payment/helloworld"]), (
            "the search does not find the routes, which every worker has"
        )
        assert found_in_memory(pid, secrets) == set()
        for told in _told_at_start(pid):
            assert not any(secret in told for secret in secrets)


def _told_at_start(pid: int) -> list[bytes]:
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")]
