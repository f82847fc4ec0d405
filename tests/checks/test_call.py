from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.checks.call import takes_test_call
from proxy.routing.compile import route_table
from proxy.settings.load import load
from proxy.settings.values import snapshot_of
from tests.checks.asking import asked, blamed
from tests.cli.serving import Site, site
from tests.support.ports import lasting_port
from tests.support.tcp_relay import tcp_relay


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Site]:
    """A right site."""
    async with site(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "how", "key", "words"),
    [
        ("refuse", {}, "routes.payments.audience", "401: the API refuses a token that was minted a moment ago"),
        ("status", {"status": 403}, "routes.payments.audience", "403: the client is not entitled"),
        ("status", {"status": 404}, "upstreams.bank.url", "404: this host has no such path"),
        ("status", {"status": 503}, "upstreams.bank.url", "503: the bank's side has a fault"),
        ("status", {"status": 302}, "upstreams.bank.url", "302, which is not expected"),
        ("html", {}, "upstreams.bank.url", "an HTML page: a corporate proxy answered"),
        ("reset", {}, "upstreams.bank.url", "got no answer"),
    ],
)
async def test_what_the_api_answers(bank: Site, kind: str, how: dict[str, int], key: str, words: str) -> None:
    """Each answer to the greeting is told apart and laid at the setting to look at."""
    bank.bank.world.faults.set(kind, "/payment", **how)
    found = await asked(bank, call_too=True)
    [finding] = found.findings
    assert finding.key == key
    assert words in finding.what


async def test_the_test_call_is_one_whole_head(bank: Site) -> None:
    """Byte for byte (RFC 9112 2.1): each line ends, Host names the upstream, and nothing comes after the empty line."""
    port = int(bank.bank.url.rpartition(":")[2])
    async with tcp_relay(port) as relay:
        bank.config.write_text(
            bank.config.read_text().replace(f'url = "{bank.bank.url}"', f'url = "http://127.0.0.1:{relay.port}"')
        )
        found = await asked(bank, call_too=True)

    head = b"GET /payment/helloworld HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % relay.port
    head += b"Accept: application/json\r\nAccept-Encoding: identity\r\n"
    assert found.findings == []
    assert relay.sent.startswith(head + b"Authorization: Bearer ")
    assert relay.sent.removeprefix(head).count(b"\r\n") == 2
    assert relay.sent.endswith(b"\r\n\r\n")


async def test_without_being_asked_nothing_is_called(bank: Site) -> None:
    """Only --call calls the API."""
    await asked(bank)
    assert bank.bank.world.seen("/payment") == []


async def test_an_upstream_that_is_away(bank: Site) -> None:
    """It is a finding of the probe, and not called after that."""
    bank.config.write_text(
        bank.config.read_text().replace(f'url = "{bank.bank.url}"', f'url = "http://127.0.0.1:{lasting_port()}"')
    )
    key, text = await blamed(bank)
    assert key == "upstreams.bank.url"
    assert "can't be reached" in text
    assert len((await asked(bank, call_too=True)).findings) == 1


@pytest.mark.parametrize(
    ("path", "rest", "takes"),
    [
        ("/payment", "", True),
        ("/", "", True),
        ("/*/helloworld", "", True),
        ("/payment/v2", "", False),
        ("/payment", 'methods = ["POST"]', False),
        ("/bank", 'strip_prefix = "/bank"', True),
        ("/bank/payment/v2", 'strip_prefix = "/bank"', False),
    ],
)
async def test_who_takes_it(bank: Site, path: str, rest: str, *, takes: bool) -> None:
    """A rule takes the greeting if it would, alone, once the prefix that it strips is put in front."""
    text = bank.config.read_text().replace('path = "/payment"\n', f'path = "{path}"\n{rest}\n')
    bank.config.write_text(text)
    settings = load(bank.config, environ={}, cwd=bank.folder).settings
    assert settings is not None
    [route] = route_table(snapshot_of(settings, instance="test")).routes
    assert takes_test_call(route) == takes
    found = await asked(bank, call_too=True)
    assert len(bank.bank.world.seen("/payment/helloworld")) == takes
    assert any("takes GET /payment/helloworld" in note for note in found.notes) != takes
