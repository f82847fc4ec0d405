"""What else an endpoint may answer, and how asking goes about it."""

import asyncio
import os
from pathlib import Path

from proxy.checks.online import check_online
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.settings.load import load
from proxy.simulator.clients import JWT_CLIENT_ID
from tests.checks.asking import asked, blamed
from tests.cli.serving import Site, site
from tests.upstream.support import eventually


async def test_an_audience_that_is_not_granted(place: Site) -> None:
    """It is the bank's to grant, and asking goes on for the other audiences."""
    pem = (place.folder / "oauth.crt").read_bytes()
    known = "other-known"
    how = "audiences" if place.flavor == "jwt" else "resources"
    place.register(pem, **{how: ["mine"]})
    world = place.bank.world
    if place.flavor == "jwt":
        world.register_jwt_client("another", pem, audiences=[known])
    else:
        world.register_adfs_client("another", pem, resources=[known])
    place.write(audience=known)
    with place.config.open("a") as file:
        file.write(
            '[[routes]]\nname = "own"\npath = "/own"\nupstream = "bank"\ncredential = "login"\naudience = "mine"\n'
        )

    key, text = await blamed(place)

    assert key == "routes.payments.audience"
    assert "entitle" in text
    assert world.mint_count(audience="mine") == 1


async def test_a_refused_client_is_tried_once(place: Site) -> None:
    """The bank sees every failed attempt, so further audiences are not tried with a client that it refuses."""
    place.write(client_id="CC-1" if place.flavor == "adfs" else "8" + JWT_CLIENT_ID[1:])
    with place.config.open("a") as file:
        file.write('[[routes]]\nname = "own"\npath = "/own"\nupstream = "bank"\ncredential = "login"\naudience = "a"\n')

    found = await asked(place)

    assert len(found.findings) == 1
    assert "login: 1 more audiences were not tried" in found.notes
    assert place.bank.world.refusals.total() == 1


async def test_the_wrong_address(place: Site) -> None:
    """404 is a wrong URL; that the path is not the bank's is confirmed for the flavor that has one."""
    place.write(path="/adfs/token")
    key, text = await blamed(place)
    assert key == "credentials.login.token_url"
    assert "no token endpoint at this address" in text
    assert ("confirms" in text) == (place.flavor == "jwt")


async def test_a_page_instead_of_an_answer(place: Site) -> None:
    """HTML is a corporate proxy; a set HTTPS_PROXY confirms it and names the setting that is missing."""
    place.bank.world.faults.set("html", "/")
    key, text = await blamed(place, environ={"HTTPS_PROXY": "http://user:canary@proxy:1"})
    assert key == "credentials.login.egress_proxy"
    assert "HTTPS_PROXY is set here, which payproxy does not read (the configuration confirms it)" in text
    assert "canary" not in text


async def test_an_endpoint_with_a_fault_of_its_own(place: Site) -> None:
    """A 500 blames nobody here."""
    place.bank.world.faults.set("status", status=500)
    _, text = await blamed(place)
    assert "the endpoint has a fault of its own (500" in text
    assert "likely" not in text


async def test_everything_goes_at_once(tmp_path: Path) -> None:
    """Credentials don't wait for each other: all nine have asked before the first is answered."""
    async with site(tmp_path) as place:
        place.bank.world.faults.set("slow", "/oauth2", seconds=3600)
        text = place.config.read_text()
        own = text[text.index("[credentials.login]") : text.index("[[routes]]")]
        rule = text[text.index("[[routes]]") :].replace('"login"', '"login{0}"').replace('"payments"', '"r{0}"', 1)
        more = [
            own.replace("credentials.login", f"credentials.login{n}")
            + rule.replace("{0}", str(n)).replace("/payment", f"/r{n}")
            for n in range(8)
        ]
        place.config.write_text(text + "".join(more))
        asking = asyncio.create_task(asked(place))
        await eventually(lambda: place.bank.world.log.total == 9)
        assert [one.status for one in place.bank.world.log.requests] == [0] * 9
        asking.cancel()
        await asyncio.wait([asking])


async def test_a_configuration_with_errors_is_not_asked_about(tmp_path: Path) -> None:
    """Nothing is sent for what `serve` would refuse."""
    loaded = load(tmp_path / "missing.toml", environ=os.environ, cwd=tmp_path)
    found = await check_online(loaded, clock=SystemClock(), entropy=SystemEntropy(), environ={})
    assert (found.findings, len(found.notes)) == ([], 1)
