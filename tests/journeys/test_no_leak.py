import re
from pathlib import Path

from proxy.entropy import SystemEntropy
from proxy.simulator.clients import AUDIENCES
from proxy.simulator.server import Bank
from tests.credentials.support_keys import make_pair
from tests.journeys.caller import Answer, Request, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.process import Instance
from tests.journeys.support import TOKEN_PATH, configured
from tests.journeys.waiting import until

CLIENT = "no-leak"
CARD = "4111111111111111"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJjbGllbnQifQ.c2lnbmF0dXJl"

_JWT = """\
flavor = "jwt"
client_id = "{client}"
token_url = "{bank}/oauth2/token"
private_key_file = "{key}"
certificate_file = "{certificate}"

[callers.erp]
networks = ["127.0.0.0/8"]
"""


# What callers send that must not be seen again.
_INDISCREET = (
    Request(path="/payment/helloworld", headers={"Authorization": "Bearer canary-of-the-caller"}),
    Request(path="/payment/helloworld", headers={"X-Payproxy-Key": "canary-of-the-caller"}),
    Request(path="/payment/helloworld", headers={"Cookie": "canary-of-the-caller"}),
    Request(path="/payment/helloworld", headers={"Bad Name": "canary-of-the-caller"}),
    Request(path="/payment/helloworld", headers={"merchant-id": CARD}),
    Request(path="/payment/v2/payments?account=canary-of-the-caller"),
    Request(path=f"/payment/v2/payments/{CARD}"),
    Request(path=f"/{JWT}/nowhere"),
    # What is left of a body longer than its Content-Length reads as a method.
    Request(method=CARD),
    Request(method=JWT),
)


async def test_no_secret_is_in_any_output(tmp_path: Path, bank: Bank, start: Start) -> None:
    """After a run with errors of every kind no secret, token or caller's credential is in logs, pages or files."""
    secret = "canary-secret-" + SystemEntropy().token_bytes(12).hex()
    bank.world.register_secret_client(CLIENT, secret)
    credential = (
        f'flavor = "basic"\nclient_id = "{CLIENT}"\nclient_secret_file = "mock.secret"\n'
        f'token_url = "{bank.url}{TOKEN_PATH}"\n'
    )
    instance = await start(configured(tmp_path, bank.url, credential=credential, secret=secret))

    outputs = await _run_with_errors(tmp_path, instance, bank, token_path=TOKEN_PATH)

    _assert_clean(outputs, [secret, *bank.world.tokens._issued])


async def test_no_assertion_is_in_any_output(tmp_path: Path, bank: Bank, start: Start) -> None:
    """The same with client assertions: nothing that looks like a JWT, and no line of the key, is anywhere."""
    key, certificate = make_pair(tmp_path)
    bank.world.register_jwt_client(CLIENT, certificate.read_bytes())
    credential = _JWT.format(client=CLIENT, bank=bank.url, key=key, certificate=certificate)
    route = f'audience = "{AUDIENCES["payments"]}"'
    instance = await start(configured(tmp_path, bank.url, credential=credential, route=route))

    outputs = await _run_with_errors(tmp_path, instance, bank, token_path="/oauth2/token")

    _assert_clean(outputs, [*key.read_text().splitlines()[1:-1], *bank.world.tokens._issued])


async def _run_with_errors(directory: Path, instance: Instance, bank: Bank, *, token_path: str) -> dict[str, str]:
    """Meet every kind of trouble, end by SIGKILL so that the journals stay, and return all that was put out."""
    faults, tokens = bank.world.faults, bank.world.tokens
    path = "/payment/v2/payments"
    answers = [await ask(instance.address, payment("good"))]
    answers += [await ask(instance.address, request) for request in _INDISCREET]
    tokens.revoke()
    answers.append(await ask(instance.address, payment("healed")))
    for kind in ("reset", "close", "reset_before", "down", "refuse", "truncated"):
        faults.set(kind, path=path, times=2)
        try:
            answers.append(await ask(instance.address, payment(kind)))
        except (EOFError, OSError):
            assert kind == "truncated"
        faults.clear()
    for kind in ("broken_json", "down"):
        faults.set(kind, path=token_path, times=1)
        tokens.revoke()
        answers.append(await ask(instance.address, payment(kind)))
        await until(lambda: _served(instance), otherwise="it did not heal")
    # Token endpoints quote what they were sent.
    faults.set("refuse", path=token_path, error="invalid_client", description=f"the assertion {JWT} is not good")
    tokens.revoke()
    answers.append(await ask(instance.address, payment("last")))
    pages = {
        page: await get(instance.admin, page)
        for page in ("/", "/metrics", "/api/status", "/readyz?verbose", "/startupz?verbose", "/livez?verbose")
    }
    await until(lambda: "last" in (directory / "requests.jsonl").read_text(), otherwise="records are missing")
    await instance.kill_all()
    outputs = {page: str(answer.headers) + answer.body.decode() for page, answer in pages.items()}
    outputs |= {f"answer {number}": _shown(answer) for number, answer in enumerate(answers)}
    outputs |= {"stdout": instance.stdout.read_text(), "stderr": instance.stderr.read_text()}
    for file in [directory / "requests.jsonl", *(directory / "data").rglob("*")]:
        if file.is_file() and file.name != "masking.key":
            outputs[str(file)] = file.read_bytes().decode("utf-8", "replace")
    assert any("/journal/w0-" in name for name in outputs)
    assert outputs["/api/status"].count(CLIENT) == 0
    assert "invalid_client: the assertion" in outputs["stderr"]
    assert "invalid_client: the assertion" in outputs["/api/status"]
    return outputs


async def _served(instance: Instance) -> bool:
    return (await get(instance.address, "/payment/helloworld")).status == 200


def _shown(answer: Answer) -> str:
    return str(answer.headers) + answer.body.decode()


def _assert_clean(outputs: dict[str, str], secrets: list[str]) -> None:
    assert len(secrets) > 5
    jwt = re.compile(r"eyJ[\w-]{8,}")
    for name, text in outputs.items():
        for secret in [*secrets, "canary-of-the-caller", CARD]:
            assert secret not in text, f"{secret} is in {name}"
        assert not jwt.search(text), f"something like a JWT is in {name}"
