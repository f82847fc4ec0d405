"""The faults of the run with canaries, and the commands of those who look what they were."""

import asyncio
import os
import signal

import redis.asyncio as redis_client

from tests.journeys.caller import Request
from tests.journeys.canaries import Canary
from tests.journeys.canary_run import HELLO, KEY, LISTED, PAYMENTS, SEEN, Run, paid
from tests.journeys.everything_on import CALLER_KEY, FACADE_PATH, MISPLACED, scrypt_hash
from tests.journeys.process import Instance, is_worker
from tests.journeys.support import TOKEN_PATH, private
from tests.journeys.waiting import until

_COMMANDS = (
    *("status", "status --json", "health", "health --ready --json", "config show", "config show --sources --json"),
    *(f"why {SEEN}", f"why {SEEN} --json", f"why {SEEN} --sign", "logs verify"),
    *(f"logs search --limit 1000 {how}" for how in ("--json", "--wide", "--csv")),
    "logs tail -n 500 --json",
    *("explain POST /payment/v2/payments --caller erp", f"explain GET {HELLO} -H X-Payproxy-Key={CALLER_KEY}"),
    *(f"export {what}" for what in ("systemd", "prometheus", "grafana")),
    *("check", "check --online", "check --call --json"),
    *("migration status", "migration plan payments 100", "migration report payments"),
    *("migration report payments --html", "migration set payments 30 --reason canary --force"),
    *(f"request GET {HELLO} -H @{{secrets}}/header", "keys inspect {secrets}/plain.key {secrets}/token.crt"),
)
_OF_THE_OTHER = ("status --json", f"why {SEEN}", "logs search --limit 1000 --json", "logs verify")
_STAYS = "stays in force"


async def bank_fails(run: Run, instance: Instance) -> None:
    """Have the bank's APIs fail in every way, then its token endpoints."""
    faults = run.bank.world.faults
    for kind in ("reset", "close", "reset_before", "down", "refuse", "truncated", "html", "broken_json", "empty"):
        faults.set(kind, path="/payment", times=4)
        for path in (PAYMENTS, HELLO):
            await run.answer(f"{kind} of {path}", instance.address, Request(path=path, headers=KEY))
        await run.answer(f"{kind} of a payment", instance.address, paid(f"order-{kind}"))
        faults.clear()
    faults.set("redirect", path="/payment", times=1, location="https://elsewhere.example/")
    await run.answer("redirect", instance.address, Request(headers=KEY))
    for kind in ("broken_json", "down", "html", "redirect"):
        for path in ("/oauth2/token", FACADE_PATH, TOKEN_PATH):
            faults.set(kind, path=path, times=1)
        run.bank.world.tokens.revoke()
        for path in (PAYMENTS, HELLO, LISTED):
            await run.answer(f"{kind} at {path}", instance.address, Request(path=path, headers=KEY))
        faults.clear()
    # A waiting instance is told to try again.
    for words in ("token payments --side legacy", "token payments --side modern", "token hello", "token listed"):
        code, process = await run.command("a", words)
        assert code == 0, process.output
        # It is printed on purpose, on stdout alone.
        run.made.append(Canary(words, process.stdout.read_bytes().strip()))
        run.outputs[f"payproxy {words} (a)"] = process.stderr.read_bytes()
    await run.is_served(instance, HELLO, LISTED)


async def reloads_are_refused(run: Run, instance: Instance) -> None:
    """Reload files with secrets in wrong places and in lines that are no TOML."""
    path = run.configuration("a")
    good = path.read_text()
    adfs, echo = 'flavor = "adfs"', f'url = "{run.echo.url}"'
    broken = (
        good.replace(adfs, f'{adfs}\nclient_secret = "{MISPLACED}'),
        good.replace(adfs, f'{adfs}\nclient_secret = "{MISPLACED}"\nprivate_key_pin = "{MISPLACED}"'),
        good.replace("[request_log]", f'[request_log]\ndatabase = "postgresql://u:{MISPLACED}@127.0.0.1/x"'),
        good.replace('operators = { alice = "', f'operators = {{ bob = "{MISPLACED}", alice = "'),
        good.replace('url_file = "', f'url = "redis://:{MISPLACED}@127.0.0.1:1/0"\nurl_file = "'),
        good.replace(echo, f'url = "https://u:{MISPLACED}@127.0.0.1/"'),
    )
    for number, text in enumerate(broken):
        assert text != good
        path.write_text(text)
        before = instance.stderr.read_text().count(_STAYS)
        os.kill(instance.pid, signal.SIGHUP)
        await until(
            lambda: instance.stderr.read_text().count(_STAYS) > before,  # noqa: B023 - waited for here
            otherwise=f"reload {number} was not refused",
        )
        code, _ = await run.command("a", "check", name=f"check of broken file {number}")
        assert code != 0
    await run.command("a", "config show", name="config show of a broken file")
    path.write_text(good)


async def stores_are_away(run: Run, instance: Instance) -> None:
    """Take Redis' password away and the database down, look, and bring both back."""
    password = run.site.text("Redis password")
    await _redis(run, password, "CONFIG", "SET", "requirepass", "another")
    await _redis(run, "another", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.to_thread(run.postgres.kill)
    run.bank.world.tokens.revoke()
    await run.answer("stores are away", instance.address, paid("order-without-stores"))
    await run.answer("stores are away, GET", instance.address, Request(headers=KEY))
    await _says(instance, "database takes no records")
    await _says(instance, "tokens are not shared")
    words = ("check --online", "status", f"why {SEEN}", "logs search --json")
    await asyncio.gather(*(run.command("a", each, name=f"{each} without stores") for each in words))
    await asyncio.to_thread(run.postgres.start)
    await _redis(run, "another", "CONFIG", "SET", "requirepass", password)
    await _says(instance, "database takes records again")
    await _says(instance, "tokens are shared with other replicas again")


async def commands(run: Run) -> None:
    """Run each command that reads."""
    private(run.site.secrets / "header", f"X-Payproxy-Key: {CALLER_KEY}")
    gate = asyncio.Semaphore(3)

    async def one(replica: str, words: str) -> None:
        async with gate:
            await run.command(replica, words)

    await asyncio.gather(*(one("a", words) for words in _COMMANDS), *(one("b", words) for words in _OF_THE_OTHER))
    _, process = await run.command("a", "assertion old")
    run.made.append(Canary("assertion that is printed", process.stdout.read_bytes().strip()))
    assert run.made[-1].value.startswith(b"eyJ")
    run.outputs["payproxy assertion old (a)"] = process.stderr.read_bytes()
    # It quotes the configuration, which has the hash by which an operator is known.
    _, process = await run.command("a", "export kubernetes")
    assert scrypt_hash() in process.output
    run.outputs["payproxy export kubernetes (a)"] = process.output.replace(scrypt_hash(), "").encode()


async def workers_are_killed(run: Run, instance: Instance) -> None:
    """End the workers by SIGKILL, then as a fault in C does, each time in the middle of a request."""
    for how in (signal.SIGKILL, signal.SIGSEGV):
        path = f"{HELLO}?killed-by={how.name}"
        run.bank.world.faults.set("slow", path=HELLO, seconds=2.0, times=1)
        asked = asyncio.create_task(run.answer(how.name, instance.address, Request(path=path, headers=KEY)))
        await until(lambda: path.encode() in run.relay.sent, otherwise="no request was sent")  # noqa: B023
        await instance.is_ready()  # it looks for workers; with operators the status is not served by TCP
        for pid in filter(is_worker, instance.known):
            os.kill(pid, how)
        await asked
        run.bank.world.faults.clear()
        await run.is_served(instance)


async def _says(instance: Instance, words: str) -> None:
    await until(lambda: words in instance.stderr.read_text(), otherwise=f"it does not say: {words}")


async def _redis(run: Run, password: str, *words: str) -> None:
    client = redis_client.Redis(port=run.redis.port, password=password)
    try:
        await client.execute_command(*words)  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()
