import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.server import Bank
from tests.journeys.caller import Request, ask, get, payment
from tests.journeys.conftest import Start
from tests.journeys.evidence import record
from tests.journeys.support import configured
from tests.journeys.waiting import until

# request-log.md, less what later issues add: hash, previous_hash, body_hmac.
FIELDS = {
    "kind", "id", "time", "environment", "instance", "sequence", "caller", "caller_proof", "client_address", "method",
    "route", "path", "query_keys", "upstream", "upstream_url", "credential", "client_digest", "audience", "side", "why",
    "attempts", "status", "origin", "code", "sent_upstream", "replayed", "caller_left", "duration_ms", "overhead_ms",
    "request_bytes", "response_bytes", "index", "config_digest",
}  # fmt: skip
ATTEMPT_FIELDS = {"started", "status", "token_fingerprint", "sent", "connect_ms", "wait_ms"}


async def test_a_plain_request_goes_to_the_bank_with_a_token_and_leaves_a_record(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """A GET without credentials is answered; the same complete record is on stdout and in the file."""
    instance = await start(configured(tmp_path, bank.url, request_log="stdout = true"))

    answer = await get(instance.address, "/payment/helloworld?account=4711", {"Request-Id": "order-1"})

    assert (answer.status, answer.json) == (200, {"message": "Hello, world"})
    assert answer.headers["proxy-status"].startswith("payproxy; received-status=200")
    [seen] = bank.world.seen("/payment/helloworld")
    assert seen.token_fingerprint in {issued.fingerprint for issued in bank.world.tokens}
    logged = await until(lambda: record(tmp_path, answer.request_id), otherwise="there was no record in the file")
    assert logged.keys() >= FIELDS
    [attempt] = logged["attempts"]
    assert attempt.keys() >= ATTEMPT_FIELDS
    assert (attempt["token_fingerprint"], attempt["status"]) == (seen.token_fingerprint, 200)
    assert logged["upstream_url"] == bank.url
    assert (logged["method"], logged["path"], logged["route"]) == ("GET", "/payment/helloworld", "hello")
    assert (logged["status"], logged["origin"], logged["sent_upstream"]) == (200, "bank", "yes")
    assert logged["query_keys"] == ["account"]
    assert "4711" not in json.dumps(logged["query_keys"])
    assert logged["index"] == {"Request-Id": "order-1"}
    printed = await until(lambda: _printed(instance.stdout, answer.request_id), otherwise="stdout had no record")
    assert printed == logged


async def test_a_revoked_token_is_healed_with_one_mint(tmp_path: Path, bank: Bank, start: Start) -> None:
    """All tokens are revoked: 50 payments at once are each refused, sent again with one new token, and executed."""
    instance = await start(configured(tmp_path, bank.url))
    assert (await get(instance.address, "/payment/helloworld")).status == 200
    mints = bank.world.mint_count()

    bank.world.tokens.revoke()
    keys = [f"order-{number}" for number in range(50)]
    answers = await asyncio.gather(*(ask(instance.address, payment(key)) for key in keys))

    assert {answer.status for answer in answers} == {201}
    assert bank.world.mint_count() == mints + 1
    assert all(bank.world.accepted[key] == 1 for key in keys)
    sent = hashlib.sha256(payment("").body).hexdigest()
    assert {each.body_sha256 for each in bank.world.seen("/payment/v2/payments")} == {sent}
    first = answers[0].request_id
    logged = await until(lambda: record(tmp_path, first), otherwise="there was no record")
    assert (logged["replayed"], logged["sent_upstream"]) == (True, "yes")
    assert [attempt["status"] for attempt in logged["attempts"]] == [401, 201]
    assert len({attempt["token_fingerprint"] for attempt in logged["attempts"]}) == 2


async def test_the_callers_own_authorization_never_reaches_the_bank(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Authorization, in any spelling, is replaced by the proxy's token."""
    instance = await start(configured(tmp_path, bank.url))

    for name in ("Authorization", "authorization", "AUTHORIZATION", "Proxy-Authorization"):
        answer = await get(instance.address, "/payment/helloworld", {name: "Bearer the-callers-own"})
        assert answer.status == 200

    own = hashlib.sha256(b"the-callers-own").hexdigest()[:16]
    for seen in bank.world.seen("/payment/helloworld"):
        assert own not in json.dumps(seen.as_dict())
        assert [name for name, _ in seen.headers if b"authorization" in name.lower()] == [b"Authorization"]
    assert len(bank.world.seen("/payment/helloworld")) == 4


async def test_the_metrics_have_the_contracts_names_and_move(tmp_path: Path, bank: Bank, start: Start) -> None:
    """Answers, a replay, an error and mints are counted under the names of contract.md section 4."""
    instance = await start(configured(tmp_path, bank.url))
    await get(instance.address, "/payment/helloworld")
    bank.world.tokens.revoke()
    await ask(instance.address, payment("order-1"))
    await get(instance.address, "/nowhere")

    wanted = [
        (
            'http_server_request_duration_seconds_count{http_request_method="GET",'
            'http_response_status_code="200",http_route="hello"} 1.0'
        ),
        'http_client_request_duration_seconds_count{http_response_status_code="401",server_address="127.0.0.1"} 1.0',
        'payproxy_overhead_seconds_count{http_route="payments"} 1.0',
        'payproxy_exchanges_total{http_route="payments",sent_upstream="yes"} 1.0',
        'payproxy_errors_total{code="no_route"} 1.0',
        'payproxy_token_mint_total{credential="mock",outcome="minted"} 2.0',
        'payproxy_replays_total{credential="mock",outcome="succeeded"} 1.0',
    ]
    named = [
        "payproxy_token_expiry_timestamp_seconds", "payproxy_clock_skew_seconds", "payproxy_journal_backlog_records",
        "payproxy_log_dropped_total", "payproxy_build_info", "process_cpu_seconds_total",
    ]  # fmt: skip

    async def shown() -> list[str]:
        return (await instance.metrics()).body.decode().splitlines()

    async def moved() -> bool:
        return set(wanted) <= set(await shown())

    try:
        await until(moved, otherwise="the metrics did not move")
    except AssertionError:
        assert not set(wanted) - set(await shown())
        raise
    text = "\n".join(await shown())
    assert [name for name in named if f"\n{name}" not in text] == []


async def test_health_tells_whether_requests_can_be_served(tmp_path: Path, bank: Bank, start: Start) -> None:
    """`payproxy health --ready` exits 0 while the instance is ready, 1 while no worker serves and when it is gone."""
    configuration = configured(tmp_path, bank.url)
    instance = await start(configuration)

    assert await _health(configuration, "--ready") == 0
    assert await _health(configuration) == 0

    assert await instance.stop() == 0
    assert await _health(configuration, "--ready") == 1
    assert await _health(configuration) == 1


async def test_health_is_not_ready_without_a_required_token(tmp_path: Path, bank: Bank, start: Start) -> None:
    """An instance that requires a credential's token lives, but is not ready until that was minted."""
    bank.world.faults.set("status", path="/am/oauth2", status=503)
    configuration = configured(tmp_path, bank.url)
    text = configuration.read_text().replace("[admin]\n", '[admin]\nready_requires = ["mock"]\n')
    configuration.write_text(text)
    instance = await start(configuration, ready=False)

    await until(instance.serving, otherwise="no worker served")
    assert await _health(configuration, "--ready") == 1
    assert await _health(configuration) == 0

    bank.world.faults.clear()
    await until(instance.is_ready, otherwise="it did not become ready")
    assert await _health(configuration, "--ready") == 0


async def test_a_caller_that_uses_it_as_http_proxy_is_served(tmp_path: Path, bank: Bank, start: Start) -> None:
    """An absolute target gets the same route as a path does."""
    instance = await start(configured(tmp_path, bank.url))
    name = bank.url.removeprefix("http://")

    answer = await ask(instance.address, Request(path=f"http://{name}/payment/helloworld"))

    assert answer.status == 200


async def _health(configuration: Path, *options: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "health", "--config", str(configuration), *options),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


def _printed(stdout: Path, id_: str) -> dict[str, Any]:
    lines = stdout.read_text().splitlines()
    return next((found for line in lines if (found := json.loads(line))["id"] == id_), {})


@pytest.mark.thorough
async def test_what_is_in_flight_is_measured(tmp_path: Path, bank: Bank, start: Start) -> None:
    """A payment that the bank takes its time for is a request in flight and a connection, until it is answered."""
    instance = await start(configured(tmp_path, bank.url))

    async def measured(*lines: str) -> bool:
        return set(lines) <= set((await instance.metrics()).body.decode().splitlines())

    nothing = ('payproxy_requests_in_flight{worker="0"} 0.0', 'payproxy_connections{worker="0"} 0.0')
    one = ('payproxy_requests_in_flight{worker="0"} 1.0', 'payproxy_connections{worker="0"} 1.0')
    zero = 'payproxy_exchanges_total{http_route="payments",sent_upstream="unknown"} 0.0'
    await until(lambda: measured(*nothing, zero, "payproxy_ready 1.0"), otherwise="the instance is not at rest")
    bank.world.faults.set("slow", path="/payment/v2/payments", method="POST", seconds=4.0)

    paying = asyncio.create_task(ask(instance.address, payment("slow")))

    await until(lambda: measured(*one), otherwise="the payment was not measured")
    assert (await paying).status == 201
    await until(lambda: measured(*nothing), otherwise="it still is")
