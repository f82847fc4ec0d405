"""`serve` with a rule that signs bodies, towards a bank that verifies them: keys, failures, and what they leave."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.clock import SystemClock
from proxy.credentials.keys import key_thumbprint
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import AUDIENCES, JWT_CLIENT_ID, MOCK_CLIENT_ID, MOCK_CLIENT_SECRET
from proxy.simulator.server import Bank, TlsFiles, simulator
from tests.credentials.support_keys import make_pair
from tests.journeys.caller import Load, Request, ask
from tests.journeys.conftest import Start
from tests.journeys.memory import found_in_memory
from tests.journeys.process import Instance, Process
from tests.journeys.signed import BODY, PAYMENTS, Signing, paid, seen, sha256
from tests.journeys.support import private
from tests.journeys.waiting import until
from tests.simulator.support import identity
from tests.support.softhsm import Token, faulty_module, needs_softhsm

FILES = 'private_key_file = "signature.key", certificate_file = "signature.crt"'


@pytest.fixture
def signing(tmp_path: Path, bank: Bank) -> Signing:
    """A key in a file, whose certificate the bank has."""
    signing = Signing(folder=tmp_path, bank=bank)
    signing.knows(signing.pair()[1])
    return signing


def thumbprint(certificate: Path) -> str:
    """Return the thumbprint of the key of *certificate*."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    assert isinstance(key, RSAPublicKey)
    return key_thumbprint(key)


def exchanges(folder: Path) -> list[str]:
    """Return the records of exchanges in the file of the request log."""
    lines = (folder / "requests.jsonl").read_text().splitlines()
    return [line for line in lines if '"kind":"exchange"' in line and '"method":"POST"' in line]


def written(folder: Path) -> dict[str, bytes]:
    """Return all files of a run but keys and certificates, by their names."""
    files = [one for one in folder.rglob("*") if one.is_file() and one.suffix not in {".key", ".crt", ".secret"}]
    return {str(one): one.read_bytes() for one in files}


async def command(configuration: Path, *arguments: str) -> str:
    """Run a command and return what it printed."""
    process = await Process.run(configuration.parent, "-m", "proxy", *arguments, "--config", str(configuration))
    assert await process.exit_code() == 0, process.output
    return process.output


async def executed(instance: Instance, key: str) -> bool:
    """Return whether a payment is executed, or has been."""
    return (await ask(instance.address, paid(key))).status in {200, 201}


async def refused(instance: Instance) -> bool:
    """Return whether a payment is refused because it can't be signed; then the bank has not seen it."""
    answer = await ask(instance.address, paid("unsigned"))
    if answer.status != 503:
        return False
    assert (answer.json["code"], answer.json["sent_upstream"]) == ("signature_unavailable", "no")
    assert answer.json["retryable"] is True
    return True


def logged(instance: Instance, words: str) -> Callable[[], bool]:
    """Return a condition: the instance has logged *words*."""
    return lambda: words in instance.stderr.read_text()


async def test_bodies_are_signed_and_everything_says_so(
    tmp_path: Path, bank: Bank, start: Start, signing: Signing
) -> None:
    """The bank verifies it and has the caller's very bytes; explain, why, logs and metric name the key."""
    configuration = signing.write(FILES, server="workers = 2")
    instance = await start(configuration)
    answer = await ask(instance.address, paid("order-1"))
    assert answer.status == 201
    assert (await ask(instance.address, Request(path=f"{PAYMENTS}/{answer.json['paymentId']}"))).status == 200

    [payment] = seen(bank)
    assert payment.payload_sha256 == sha256(BODY)
    assert payment.body_sha256 != sha256(BODY)
    assert payment.header("Content-Type") == "text/xml"
    assert bank.world.payments[answer.json["paymentId"]]["bodySha256"] == sha256(BODY)
    key = thumbprint(tmp_path / "signature.crt")
    shown = await command(configuration, "logs", "show", answer.request_id)
    assert f"signed by the key {key}" in shown
    assert f"In place of its body the bank got a JWS of {payment.body_size} bytes" in " ".join(
        (await command(configuration, "why", answer.request_id)).split()
    )
    assert "a JWS (RS256) by the key" in await command(configuration, "explain", "POST", PAYMENTS)
    assert "only those of POST and PUT" in await command(configuration, "explain", "GET", PAYMENTS)
    assert key in await command(configuration, "logs", "search", "--json")
    metrics = (await instance.metrics()).body.decode()
    assert 'payproxy_body_signatures_total{http_route="payments",outcome="signed"} 1.0' in metrics
    assert await instance.stop() == 0
    await command(configuration, "logs", "verify")
    # Neither the card number nor anything that looks like a JWS is in what was written.
    for name, data in written(tmp_path).items():
        assert b"4111111111111111" not in data, name
        assert b"eyJhbGciOiJSUzI1NiJ9" not in data, name


async def test_a_refused_token_costs_one_signature(bank: Bank, start: Start, signing: Signing) -> None:
    """The second send has the same bytes, and the bank executes one payment."""
    instance = await start(signing.write(FILES))
    assert await executed(instance, "order-1")
    bank.world.tokens.revoke()
    assert (await ask(instance.address, paid("order-2"))).status == 201

    first, second = seen(bank)[1:]
    assert (first.status, second.status) == (401, 201)
    assert first.body_sha256 == second.body_sha256
    metrics = (await instance.metrics()).body.decode()
    assert 'payproxy_body_signatures_total{http_route="payments",outcome="signed"} 2.0' in metrics


async def test_a_key_is_replaced_under_load(tmp_path: Path, start: Start, signing: Signing) -> None:
    """Each request is signed by the old key or the new one, none is refused; a bad file is refused, and is said."""
    (tmp_path / "next").mkdir()
    key, certificate = make_pair(tmp_path / "next", name="signature")
    signing.knows(tmp_path / "signature.crt", certificate)
    old, new = thumbprint(tmp_path / "signature.crt"), thumbprint(certificate)
    instance = await start(signing.write(FILES, server="workers = 2"))
    async with Load(instance.address, lambda number: paid(f"order-{number}"), connections=4) as load:
        await until(lambda: len(load.answers) > 20, otherwise="no load")
        (tmp_path / "signature.key").write_bytes(key.read_bytes()[:800])
        await until(logged(instance, "refused, the old ones stay in use"), otherwise="the bad file was not refused")
        (tmp_path / "signature.key").write_bytes(key.read_bytes())
        (tmp_path / "signature.crt").write_bytes(certificate.read_bytes())
        await until(logged(instance, f"replaced: {new}"), otherwise="the new key was not taken")
        count = len(load.answers)
        await until(lambda: len(load.answers) > count + 20, otherwise="no load")
    assert set(load.statuses) <= {200, 201}, load.problems
    assert load.failures == []
    assert not (await instance.status())["reload_problem"]
    assert "PRIVATE" not in instance.stderr.read_text()
    assert await instance.stop() == 0
    keys = [json.loads(line)["signature"]["key"] for line in exchanges(tmp_path)]
    assert set(keys) == {old, new}
    assert keys[-1] == new


async def test_a_reload_changes_key_and_type(tmp_path: Path, bank: Bank, start: Start, signing: Signing) -> None:
    """Requests go on meanwhile; a configuration whose key is a credential's is refused."""
    instance = await start(signing.write(FILES))
    key, certificate = signing.pair("second")
    signing.knows(tmp_path / "signature.crt", certificate)
    async with Load(instance.address, lambda number: paid(f"order-{number}"), connections=2) as load:
        files = f'private_key_file = "{key.name}", certificate_file = "{certificate.name}"'
        signing.write(f'{files}, content_type = "application/jose"')
        instance.process.send_signal(signal.SIGHUP)
        await until(logged(instance, "is in force"), otherwise="the reload was refused")
        count = len(load.answers)
        await until(lambda: len(load.answers) > count + 5, otherwise="no load")
    assert set(load.statuses) <= {200, 201}, load.problems
    assert seen(bank)[-1].header("Content-Type") == "application/jose"


async def test_a_killed_keeper_sends_nothing_unsigned(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Whoever waits for a signature when the keeper is killed is told that nothing was sent, and it was not."""
    signing = Signing(folder=tmp_path, bank=bank)
    _, certificate = signing.pair()
    signing.knows(certificate)
    program = hanging(tmp_path)
    instance = await start(signing.write(command_of(program, certificate), server="workers = 2"))
    waiting = [asyncio.create_task(ask(instance.address, paid(f"order-{number}"))) for number in range(8)]

    async def all_wait() -> bool:
        return bool(sum(one["in_flight"] for one in (await instance.status())["workers"]) == len(waiting))

    await until(all_wait, otherwise="they did not come to the workers")
    await until((tmp_path / "asked").exists, otherwise="the program was not asked")
    await instance.kill()
    answers = await asyncio.gather(*waiting)

    assert {(answer.status, answer.json["code"], answer.json["sent_upstream"]) for answer in answers} == {
        (503, "signature_unavailable", "no")
    }
    assert seen(bank) == []
    await instance.workers_gone()
    said = re.findall(r"the keeper is gone: (\d+) bodies were not signed", instance.stderr.read_text())
    assert sum(map(int, said)) == 8


async def test_a_program_that_hangs_is_bounded(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Requests are refused in time, others are served meanwhile, one program runs, and it works again by itself."""
    signing = Signing(folder=tmp_path, bank=bank)
    key, certificate = signing.pair()
    signing.knows(certificate)
    program = hanging(tmp_path)
    instance = await start(signing.write(command_of(program, certificate)))
    tasks = [asyncio.create_task(refused(instance)) for _ in range(6)]
    await until((tmp_path / "asked").exists, otherwise="the program was not asked")
    assert (await ask(instance.address, Request())).status == 200
    assert await asyncio.gather(*tasks) == [True] * 6
    assert seen(bank) == []
    await until(logged(instance, "can't be signed, nothing of them is sent"), otherwise="it was not said")
    assert await instance.is_ready()
    counted = b'payproxy_errors_total{code="signature_unavailable"} 6.0'

    async def is_counted() -> bool:
        return counted in (await instance.metrics()).body

    await until(is_counted, otherwise="the metric does not count it")
    program.write_text(f"#!/bin/sh\nopenssl pkeyutl -sign -inkey {key} -pkeyopt digest:sha256 | base64 -w0\n")

    await until(partial(executed, instance, "order-1"), otherwise="it does not sign")
    assert logged(instance, "are signed again")()
    assert seen(bank)[-1].payload_sha256 == sha256(BODY)


def hanging(folder: Path) -> Path:
    """Return a program that says in a file that it was asked, and prints nothing."""
    program = folder / "sign"
    program.write_text(f"#!/bin/sh\ntouch {folder}/asked\nexec sleep 600\n")
    program.chmod(0o755)
    return program


def command_of(program: Path, certificate: Path) -> str:
    """Return the settings of a key behind *program*."""
    return f'signer_command = ["{program}"], certificate_file = "{certificate}"'


@needs_softhsm
async def test_a_key_in_a_token_signs_bodies(tmp_path: Path, bank: Bank, start: Start) -> None:
    """It is opened once and signs for both workers; while the token is away nothing is sent, and then it goes on."""
    signing = Signing(folder=tmp_path, bank=bank)
    key, certificate = signing.pair()
    signing.knows(certificate)
    (tmp_path / "hsm").mkdir()
    token = Token(tmp_path / "hsm")
    token.import_key(key, label="bodies")
    key.unlink()
    module = faulty_module(tmp_path)
    uri = token.uri("bodies", module=module)
    configuration = signing.write(
        f'private_key_uri = "{uri}", certificate_file = "{certificate}"', server="workers = 2"
    )
    instance = await start(configuration, env=token.environment)
    answers = await asyncio.gather(*(ask(instance.address, paid(f"order-{number}")) for number in range(40)))
    assert {answer.status for answer in answers} == {201}
    assert token.logins <= 2  # `check` at the start, and the keeper's own
    assert {one.payload_sha256 for one in seen(bank)} == {sha256(BODY)}
    count = len(seen(bank))

    token.fail("sign hang", "initialize hang")
    assert await refused(instance)
    assert len(seen(bank)) == count
    token.faults.unlink()
    await until(partial(executed, instance, "later"), otherwise="it does not sign again")


async def test_what_the_bank_refuses_is_handed_on(bank: Bank, start: Start, signing: Signing) -> None:
    """A signature by a key that the bank does not know, and a POST without a body: its answers, sent once each."""
    other = signing.pair("other")[1]
    signing.knows(other)
    instance = await start(signing.write(FILES))
    answer = await ask(instance.address, paid("order-1"))
    assert (answer.status, len(seen(bank))) == (403, 1)
    empty = await ask(instance.address, paid("order-2", body=b""))
    assert (empty.status, len(seen(bank))) == (400, 2)
    assert bank.world.accepted.total() == 0


async def test_a_drain_waits_for_signatures(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A request that waits for its signature when the instance is told to stop gets its answer."""
    signing = Signing(folder=tmp_path, bank=bank)
    key, certificate = signing.pair()
    signing.knows(certificate)
    program = tmp_path / "sign"
    slow = f"touch {tmp_path}/asked\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    sign = f"openssl pkeyutl -sign -inkey {key} -pkeyopt digest:sha256 -in {tmp_path}/digest | base64 -w0"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/digest\n{slow}\n{sign}\n")
    program.chmod(0o755)
    instance = await start(signing.write(command_of(program, certificate)))
    waiting = asyncio.create_task(ask(instance.address, paid("order-1")))
    await until((tmp_path / "asked").exists, otherwise="the program was not asked")
    instance.terminate()
    (tmp_path / "go").touch()

    assert (await waiting).status == 201
    assert await instance.exit_code() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="reading the memory of other processes needs root")
async def test_no_worker_has_the_key_for_bodies(tmp_path: Path, start: Start, signing: Signing) -> None:
    """Its numbers are in the keeper's memory, and in no worker's."""
    instance = await start(signing.write(FILES, server="workers = 2"))
    assert await executed(instance, "order-1")
    key = load_pem_private_key((tmp_path / "signature.key").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    secrets = [
        number.to_bytes(size, order)
        for number, size in ((numbers.p, 128), (numbers.q, 128), (numbers.d, 256))
        for order in ("little", "big")
    ]
    assert found_in_memory(instance.pid, secrets), "the search does not find what is there"
    for pid in await instance.serving():
        assert found_in_memory(pid, secrets) == set()


async def test_a_client_certificate_and_a_signature(tmp_path: Path, start: Start) -> None:
    """The APIs that want mutual TLS with a digital signature get both, of two keys."""
    server, transport = identity(), identity(name="transport")
    for name, one in (("server", server), ("transport", transport)):
        (tmp_path / f"{name}.crt").write_bytes(one.pem)
        private(tmp_path / f"{name}.key", one.key_pem.decode())
    tls = TlsFiles(
        certificate=tmp_path / "server.crt", key=tmp_path / "server.key", client_ca=tmp_path / "transport.crt"
    )
    async with simulator(clock=SystemClock(), entropy=SystemEntropy(), tls=tls) as bank:
        bank.world.register_jwt_client(
            JWT_CLIENT_ID, b"", tls_certificate_pem=transport.pem, bind_tokens=True, kid_forms=()
        )
        signing = Signing(folder=tmp_path, bank=bank)
        signing.knows(signing.pair()[1])
        pair = 'ca_file = "server.crt"\nclient_certificate_file = "transport.crt"\nclient_key_file = "transport.key"\n'
        credential = f'flavor = "jwt"\nclient_id = "{JWT_CLIENT_ID}"\nauth_method = "tls_client_auth"\n{pair}'
        configuration = signing.write(
            FILES,
            credential=f'{credential}token_url = "{bank.url}/oauth2/token"\n',
            route=f'audience = "{AUDIENCES["payments"]}"',
        )
        text = configuration.read_text()
        text = text.replace("[upstreams.simulator]\n", f"[upstreams.simulator]\n{pair}")
        configuration.write_text(text.replace("//127.0.0.1:", "//localhost:"))  # what the certificate names
        instance = await start(configuration)
        assert await executed(instance, "order-1")
        assert seen(bank)[-1].payload_sha256 == sha256(BODY)


async def test_a_fallback_has_the_same_signature(bank: Bank, start: Start, signing: Signing) -> None:
    """On a migrated rule the other side gets the same bytes; one signature was made."""
    migration = """
[credentials.modern]
flavor = "basic"
client_id = "modern-client"
client_secret_file = "mock.secret"
token_url = "{url}/am/oauth2/alpha/access_token"

[migrations.moving]
routes = ["payments"]
fallback = true
legacy = {{ credential = "mock" }}
modern = {{ credential = "modern" }}
"""
    bank.world.register_secret_client("modern-client", MOCK_CLIENT_SECRET)
    configuration = signing.write(FILES, more=migration.format(url=bank.url))
    instance = await start(configuration)
    await command(configuration, "migration", "set", "moving", "100", "--reason", "test", "--force")
    assert await executed(instance, "order-1")
    bank.world.tokens.revoke(client_id="modern-client")
    count = len(seen(bank))
    assert await executed(instance, "order-2")

    first, second = seen(bank)[count:]
    assert (first.client_id, second.client_id) == ("modern-client", MOCK_CLIENT_ID)
    assert (first.status, second.status) == (401, 201)
    assert first.body_sha256 == second.body_sha256
    assert second.payload_sha256 == sha256(BODY)


async def test_what_a_stopped_keeper_left_unanswered_is_counted_and_said(
    bank: Bank, start: Start, signing: Signing
) -> None:
    """The worker refuses by itself, and reports it; the keeper counts it when it runs again."""
    instance = await start(signing.write(FILES))
    instance.process.send_signal(SIGSTOP)
    try:
        answer = await ask(instance.address, paid("order-1"))
    finally:
        instance.process.send_signal(SIGCONT)
    assert (answer.status, answer.json["sent_upstream"]) == (503, "no")
    assert seen(bank) == []

    async def is_counted() -> bool:
        return (
            b'payproxy_body_signatures_total{http_route="payments",outcome="unanswered"} 1.0'
            in (await instance.metrics()).body
        )

    await until(is_counted, otherwise="the metric does not count it")
    assert logged(instance, "can't be signed, nothing of them is sent: the keeper did not answer")()
