import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cli.serving import Site, command, serving, site

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def instance(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A running proxy in front of the simulator, started once: the tests only send requests."""
    async with site(tmp_path_factory.mktemp("site")) as made, serving(made):
        await made.ready()
        yield made


@pytest.fixture
def place(instance: Site) -> Site:
    """The running proxy, and a simulator that has seen nothing yet."""
    instance.bank.world.log.clear()
    return instance


async def test_a_call_and_where_its_time_went(place: Site) -> None:
    """The body alone is on stdout; status, ids and the times that add up are on stderr."""
    done = await command("request", "GET", "/payment/helloworld", "--config", place.config)

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)
    rows = dict(line.split(None, 1) for line in done.stderr.replace("first byte", "first-byte").splitlines())
    assert rows["status"] == "200 OK"
    assert rows["proxy-status"].startswith("payproxy")
    assert len(rows["payproxy-request-id"]) == 36
    connect, first, total = (float(rows[name].split()[0]) for name in ("connect", "first-byte", "total"))
    assert 0 < connect <= first <= total


async def test_a_body_from_a_file_with_headers(place: Site, tmp_path: Path) -> None:
    """@FILE is sent byte for byte, as JSON unless told else, and headers arrive as written."""
    (tmp_path / "pay.json").write_bytes(b'{"amount":  1.00}\n')
    (tmp_path / "more").write_text("Idempotency-Key: mine\n\nX-Other: two\n")
    done = await command(
        *("request", "post", "/payment/v2/payments", "-d", f"@{tmp_path / 'pay.json'}", "--json"),
        *("-H", "request-id: abc", "-H", f"@{tmp_path / 'more'}", "--config", place.config),
    )

    assert done.exit_code == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["status"] < 300
    assert value["milliseconds"]["connect"] <= value["milliseconds"]["total"]
    assert value["request_id"]
    [seen] = place.bank.world.seen("/payment/v2/payments")
    headers = {name.decode().lower(): text.decode() for name, text in seen.headers}
    assert (headers["request-id"], headers["idempotency-key"], headers["x-other"]) == ("abc", "mine", "two")
    assert headers["content-type"] == "application/json"
    assert seen.body_size == len(b'{"amount":  1.00}\n')


async def test_stdin_is_a_body(place: Site) -> None:
    """@- reads stdin."""
    done = await command(
        *("request", "POST", "/payment/v2/payments", "-d", "@-", "-H", "Idempotency-Key: k", "--config", place.config),
        data=b'{"amount": 2}',
    )
    assert done.exit_code == 0, done.stderr
    assert place.bank.world.seen("/payment/v2/payments")[0].body_size == len(b'{"amount": 2}')


async def test_a_refusal_ends_with_1_and_shows_the_problem(place: Site) -> None:
    """The proxy's own problem document is the body."""
    done = await command("request", "GET", "/nowhere", "--config", place.config)

    assert done.exit_code == 1
    assert json.loads(done.stdout)["code"] == "no_route"
    assert "404" in done.stderr


async def test_absolute_form(place: Site) -> None:
    """What HTTP_PROXY makes of a call goes out as it is."""
    port = place.bank.url.rpartition(":")[2]
    done = await command("request", "GET", f"http://127.0.0.1:{port}/payment/helloworld", "--config", place.config)
    assert done.exit_code == 0, done.stdout + done.stderr


async def test_no_proxy_to_reach(tmp_path: Path) -> None:
    """Nobody listening is 69, and the message says where it was looked for."""
    async with site(tmp_path) as made:
        done = await command("request", "GET", "/payment/helloworld", "--config", made.config)
        assert (done.exit_code, done.stdout) == (69, "")
        assert f"127.0.0.1:{made.port}" in done.stderr
        made.config.write_text(made.config.read_text().replace(f"127.0.0.1:{made.port}", f"unix:{tmp_path}/s"))
        assert (await command("request", "GET", "/payment/helloworld", "--config", made.config)).exit_code == 69


@pytest.mark.parametrize(
    "arguments",
    [
        ["GET", "/a b"], ["GET", "/\u00e4"], ["G\nT", "/"], ["GET", "/", "-H", "nonsense"],
        ["GET", "/", "-H", "a: b\nc"],
        ["GET", "/", "-d", "@missing"],
    ],
)  # fmt: skip
async def test_what_no_request_can_have_is_a_usage_error(place: Site, arguments: list[str]) -> None:
    """Such a request is never sent."""
    done = await command("request", *arguments, "--config", place.config)
    assert done.exit_code == 2, done.stderr
    assert place.bank.world.seen("/payment") == []
