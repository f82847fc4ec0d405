"""The run with canaries: what it needs, what it keeps of what was put out, and what callers send, right and wrong."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.clock import SystemClock
from proxy.simulator.server import Bank
from tests.callers.clients import ASSERTION_TYPE, claims, signed
from tests.journeys.caller import Address, Answer, Request, ask
from tests.journeys.canaries import Canary
from tests.journeys.echoing import CARD, IBAN, TOKEN_ANSWERS, Echo, echoing
from tests.journeys.everything_on import CALLER_KEY, FACADE_PATH, OLD_CALLER_KEY, Site
from tests.journeys.process import Instance, Process
from tests.journeys.waiting import until
from tests.records.postgres import Postgres, execute
from tests.records.sinks.collector import Collector, collector
from tests.support.redis import RedisServer, redis_server
from tests.support.softhsm import Token
from tests.support.tcp_relay import TcpRelay, tcp_relay

# The Idempotency-Key of a payment that commands look for.
SEEN = "order-that-is-looked-for"
KEY = {"X-Payproxy-Key": CALLER_KEY}
PAYMENTS, HELLO, LISTED = "/payment/v2/payments", "/payment/helloworld", "/listed/payment/helloworld"
OF_A_CALLER = "canary-of-a-bearer-that-a-caller-made-up"
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(kw_only=True)
class Run:
    """What runs, and what it has put out, by the name of where it stood."""

    site: Site
    directory: Path
    bank: Bank
    echo: Echo
    relay: TcpRelay
    redis: RedisServer
    postgres: Postgres
    collector: Collector
    env: dict[str, str]
    outputs: dict[str, bytes] = field(default_factory=dict)
    # Assertions, tokens and keys that were made on the way.
    made: list[Canary] = field(default_factory=list)
    commands: int = 0

    def configuration(self, replica: str) -> Path:
        """Return the configuration of *replica*."""
        return self.directory / replica / "payproxy.toml"

    async def answer(self, name: str, address: Address, request: Request) -> Answer | None:
        """Send *request*, keep what comes back under *name* and return it; None if the connection was cut."""
        try:
            answer = await ask(address, request)
        except (EOFError, OSError):
            return None
        self.outputs[f"answer to {name}"] = json.dumps([answer.status, answer.headers]).encode() + answer.body
        return answer

    async def is_served(self, instance: Instance, *paths: str) -> None:
        """Return once requests to all of *paths* are served."""
        for path in paths or (HELLO,):

            async def served(path: str = path) -> bool:
                answer = await self.answer(f"GET {path}", instance.address, Request(path=path, headers=KEY))
                return answer is not None and answer.status == 200

            await until(served, otherwise=f"{path} is not served")

    async def command(self, replica: str, words: str, *, name: str = "") -> tuple[int, Process]:
        """Run a command with the configuration of *replica* and keep what it prints; return exit code and process."""
        arguments = words.format(secrets=self.site.secrets).split()
        if arguments[0] != "keys":
            arguments += ["--config", str(self.configuration(replica))]
        self.commands += 1
        folder = self.directory / "commands" / str(self.commands)
        folder.mkdir(parents=True)
        process = await Process.run(folder, "-m", "proxy", *arguments, env=self.env)
        code = await process.exit_code()
        assert "Traceback" not in process.output, process.output
        self.outputs[f"payproxy {name or words} ({replica})"] = process.output.encode()
        return code, process


@asynccontextmanager
async def everything(directory: Path, bank: Bank, postgres: Postgres) -> AsyncIterator[Run]:
    """Run all that the replicas "a" and "b" talk to, and write their configurations."""
    (directory / "hsm").mkdir()
    async with contextlib.AsyncExitStack() as stack:
        echo = await stack.enter_async_context(echoing())
        relay = await stack.enter_async_context(tcp_relay(int(bank.url.rpartition(":")[2])))
        otlp = await stack.enter_async_context(collector())
        redis = await stack.enter_async_context(redis_server(directory))
        site = Site(
            folder=directory,
            bank=bank,
            echo=echo,
            token=Token(directory / "hsm"),
            redis_port=redis.port,
            postgres_port=postgres.port,
        )
        site.plant()
        site.register()
        await redis.command("CONFIG", "SET", "requirepass", site.text("Redis password"))
        password = site.text("PostgreSQL password")
        await execute(postgres.url(), f"CREATE ROLE canary SUPERUSER LOGIN PASSWORD '{password}'")
        url = f"http://127.0.0.1:{relay.port}"
        site.write("a", workers=2, bank_url=url, in_postgres=True)
        site.write("b", workers=1, bank_url=url, in_postgres=False)
        yield Run(
            site=site,
            directory=directory,
            bank=bank,
            echo=echo,
            relay=relay,
            redis=redis,
            postgres=postgres,
            collector=otlp,
            env=site.environment(otlp.url),
        )


def paid(key: str, **headers: str) -> Request:
    """Return a payment with a card number and an IBAN in its body, which are the bank's to see."""
    body = json.dumps({"card": CARD, "iban": IBAN, "amount": 1}).encode()
    return Request(method="POST", path=PAYMENTS, key=key, headers={**KEY, **headers}, body=body)


async def calls(run: Run, instance: Instance) -> None:
    """Send what is served, what is refused, and what callers must not send."""
    requests = {
        "payment": paid(SEEN),
        "card in headers": paid(CARD, **{"merchant-id": CARD, "request-id": IBAN}),
        "path with a card": Request(path=f"{PAYMENTS}/{CARD}?iban={IBAN}&token={OF_A_CALLER}", headers=KEY),
        "own bearer": Request(headers={**KEY, "Authorization": f"Bearer {OF_A_CALLER}"}),
        "bearer only": Request(headers={"Authorization": f"Bearer {OF_A_CALLER}"}),
        "Basic with the key": Request(headers={"Authorization": f"Basic {_basic('erp', CALLER_KEY)}"}),
        "Basic, swapped": Request(headers={"Authorization": f"Basic {_basic(CALLER_KEY, 'erp')}"}),
        "key twice": Request(headers={**KEY, "x-payproxy-key": CALLER_KEY}),
        "no rule": Request(path=f"/nowhere/{CARD}/{IBAN}", headers=KEY),
        "cookie": Request(headers={**KEY, "Cookie": OF_A_CALLER, "X-Forwarded-For": OF_A_CALLER}),
        "forwarded": Request(headers={**KEY, "Forwarded": f"for={OF_A_CALLER};by={OF_A_CALLER}"}),
        "bad name": Request(headers={**KEY, f"Bad {OF_A_CALLER}": OF_A_CALLER}),
        "bad value": Request(headers={**KEY, "Authorization": f"Bearer {OF_A_CALLER}\0"}),
        "bad key": Request(headers={"X-Payproxy-Key": f"{CALLER_KEY}\x01"}),
        "host": Request(headers={**KEY, "Host": OF_A_CALLER}),
        # What is left of a body longer than its Content-Length reads as a method.
        "method": Request(method=CARD, headers=KEY),
        "expect": Request(headers={**KEY, "Expect": OF_A_CALLER}),
        "framing": Request(headers={**KEY, "Transfer-Encoding": OF_A_CALLER}),
        "listed": Request(path=LISTED, headers=KEY),
        "mirror": Request(path="/mirror/opaque", headers=KEY),
        "mirror of a JWT": Request(path="/mirror/jwt", headers=KEY),
        "mutual TLS": Request(path="/mutual", headers=KEY),
    }
    requests |= {
        f"echo {name} {flavor}": Request(path=f"/echo/{name}-{flavor}", headers=KEY)
        for name in TOKEN_ANSWERS
        for flavor in ("basic", "jwt")
    }
    for name, request in requests.items():
        await run.answer(f"{name} at port {instance.address[1]}", instance.address, request)


async def facade_calls(run: Run, instance: Instance) -> None:
    """Fetch tokens of the facade, use them, and ask for some in wrong ways."""
    key = load_pem_private_key((run.site.secrets / "caller.key").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    url = "http://{}:{}{}".format(*instance.address, FACADE_PATH)
    assertion = signed(claims(SystemClock().now(), iss="old-erp", sub="old-erp", aud=url), key)
    run.made.append(Canary.of("assertion of a caller", assertion))
    grant = {"grant_type": "client_credentials"}
    by_key = {**grant, "client_id": "erp", "client_secret": CALLER_KEY}
    by_assertion = {**grant, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    await _uses_a_token(run, instance, _token_request(by_key), name="erp")
    await _uses_a_token(
        run, instance, _token_request(by_assertion, **{"X-Payproxy-Key": OLD_CALLER_KEY}), name="old-erp"
    )
    wrong = {
        "swapped": {**by_key, "client_id": CALLER_KEY, "client_secret": "erp"},
        "another's key": {**by_key, "client_id": "old-erp"},
        "both": {**by_key, **by_assertion},
        "assertion as id": {**by_key, "client_id": assertion},
        "card as id": {**by_key, "client_id": CARD},
        "IBAN as grant type": {**by_key, "grant_type": IBAN},
        "assertion as grant type": {**by_key, "grant_type": assertion},
        "wrong type": {**by_assertion, "client_assertion_type": assertion},
        "cut": {**by_assertion, "client_assertion": assertion[:-9]},
    }
    for name, form in wrong.items():
        await run.answer(f"facade: {name}", instance.address, _token_request(form))
    swapped = {"Authorization": f"Basic {_basic(CALLER_KEY, 'erp')}"}
    await run.answer("facade: Basic, swapped", instance.address, _token_request(grant, **swapped))


async def _uses_a_token(run: Run, instance: Instance, request: Request, *, name: str) -> None:
    """Get a token of the facade, which is in this answer and in no other, and use it well and badly."""
    answer = await ask(instance.address, request)
    assert answer.status == 200, answer.body
    token = answer.json["access_token"]
    run.made.append(Canary.of(f"facade token of {name}", token))
    for what, path, headers in (
        ("good", HELLO, {"Authorization": f"Bearer {token}"}),
        ("for no rule", "/nowhere", {"Authorization": f"Bearer {token}"}),
        ("changed", HELLO, {"Authorization": f"Bearer {token[:-4]}AAAA"}),
        ("in the query", f"{HELLO}?access_token={token}", KEY),
    ):
        await run.answer(f"facade token of {name}, {what}", instance.address, Request(path=path, headers=headers))


def _token_request(form: dict[str, str], **headers: str) -> Request:
    return Request(method="POST", path=FACADE_PATH, headers={**_FORM, **headers}, body=urlencode(form).encode())


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
