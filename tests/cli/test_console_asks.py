import asyncio
import json
import re
from pathlib import Path

import httpx

from proxy.settings.scrypt import make
from tests.cli.serving import Site, command, serving, site
from tests.cli.support import run_process
from tests.cli.test_why_ask import INQUIRY, PAYMENTS, inquiries, pay, searched, told
from tests.console.support import csrf_of
from tests.support.ports import lasting_port


def with_console(place: Site) -> None:
    """Give the configuration an inquiry, and the admin listener an address and an operator."""
    hashed = make("correct horse battery", b"0123456789abcdef")
    admin = f'listen = "127.0.0.1:{lasting_port()}"\noperators = {{ alice = "{hashed}" }}\n[request_log]'
    text = place.config.read_text().replace('listen = ""\n[request_log]', admin)
    place.config.write_text(text + INQUIRY)


async def open_requests(client: httpx.AsyncClient, number: int) -> None:
    """Return once the overview counts *number* unresolved requests."""
    async with asyncio.timeout(90):
        while True:
            found = (await client.get("/console/overview.json")).json()["unresolved"]
            if found == {"number": number, "more": False, "problem": ""}:
                return
            await asyncio.sleep(0.1)


async def test_the_consoles_button_asks_the_bank_as_why_does(tmp_path: Path) -> None:
    """Once, by GET, with the rule's token; it is recorded who asked, and then nothing is unresolved any more."""
    async with site(tmp_path) as place:
        with_console(place)
        async with serving(place):
            await place.ready()
            id_ = await pay(place, "lost-1")
            await searched(place, 1)
            made = json.loads(run_process("admin", "login-link", "--json", cwd=tmp_path).stdout)
            url, _, link = made["url"].partition("?link=")
            origin = url.removesuffix("/console/sign-in")
            async with httpx.AsyncClient(base_url=origin, trust_env=False, follow_redirects=True, timeout=60) as client:
                await client.post(url, data={"link": link})
                await open_requests(client, 1)
                csrf = await csrf_of(client, f"/console/requests/{id_}")
                answer = await client.post("/console/requests/ask", data={"csrf": csrf, "id": id_})
                page = (await client.get(f"/console/requests/{id_}")).text
                await open_requests(client, 0)
            [record] = await inquiries(place, 1)
            done = await command("logs", "search", "--kind", "operation", "--json", "--config", place.config)
            one = await told(place, id_)

    assert answer.status_code == 200, answer.text
    assert "The bank answered 200: the bank has it." in re.sub(r"\s+", " ", answer.text)
    assert "The bank answered 200: the bank has it." in page
    assert len(place.bank.world.seen(PAYMENTS, "GET")) == 1
    assert record["who"]
    assert (record["index"], record["verdict"]) == ({"exchange": id_}, "found")
    assert one["settled"] == "found"
    operations = [json.loads(line) for line in done.stdout.splitlines()]
    [operation] = [each for each in operations if each["what"] == "console: ask the bank"]
    assert operation["who"] == record["who"]
