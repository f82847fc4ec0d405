"""The console on a TLS listener that other machines reach: over real sockets, and in Debian's Chromium."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright

from proxy.keeper.admin_connections import MOST_CONNECTIONS
from proxy.keeper.admin_server import AdminServer, server_tls
from proxy.settings.addresses import TcpAddress
from tests.cli.serving import serving, site
from tests.cli.support import run_process
from tests.console.support import OPERATORS, PASSWORD, Stage, csrf_of, sign_in
from tests.console.test_status_pages import migration
from tests.keeper.support import connection, get, send
from tests.keeper.test_admin_server import write_certificate
from tests.support.ports import lasting_port
from tests.telemetry.support import status

NAME = "payproxy.corp"
COOKIE = "__Host-payproxy"
CHROMIUM = shutil.which("chromium")
IDLE = 200


@dataclass(kw_only=True)
class Secured:
    """A console behind TLS on all addresses of this machine."""

    stage: Stage
    server: AdminServer
    trusting: ssl.SSLContext

    @property
    def port(self) -> int:
        """Return its port."""
        return self.server.addresses[0][1]

    def browser(self, name: str = "localhost") -> httpx.AsyncClient:
        """Return a client that trusts the certificate and asks under *name*, as that is in its address bar."""
        address = httpx.URL(f"https://localhost:{self.port}")
        return httpx.AsyncClient(
            base_url=address, verify=self.trusting, timeout=60, trust_env=False, headers={"Host": f"{name}:{self.port}"}
        )

    @property
    def place(self) -> tuple[str, int]:
        """Return where it is reached."""
        return ("127.0.0.1", self.port)


@pytest.fixture(name="secured")
async def fixture_secured(tmp_path: Path) -> AsyncIterator[Secured]:
    """Open a console with one operator, a name that browsers may ask under, and a migration at weight 40."""
    async with open_console(tmp_path) as secured:
        yield secured


@asynccontextmanager
async def open_console(directory: Path) -> AsyncIterator[Secured]:
    """Open it."""
    files = write_certificate(directory)
    data = directory / "data"
    data.mkdir()
    stage = Stage(
        directory=data, operators=OPERATORS, secure=True, hosts=(NAME,), listen=TcpAddress(host="0.0.0.0", port=0),
        tls=server_tls(*files), status=status(migrations=(migration(),)),
    )  # fmt: skip
    migrations = await stage.migrating.open()
    for weight in (20, 40):
        await migrations.set("payments", weight, who="x", proof="unix socket", reason="y", force=True)
    stage.status = status(migrations=migrations.states())
    async with stage.server() as server:
        yield Secured(stage=stage, server=server, trusting=ssl.create_default_context(cafile=str(files[0])))


async def test_a_browser_signs_in_acts_and_signs_out(secured: Secured) -> None:
    """With a cookie that is sent over TLS to this very host only; what an operator does needs the page's token."""
    async with secured.browser(NAME) as browser:
        origin = {"Origin": f"https://{NAME}:{secured.port}", "Sec-Fetch-Site": "same-origin"}
        fields = {"name": "alice", "password": PASSWORD}
        entered = await browser.post("/console/sign-in", data=fields, headers=origin)
        cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
        page = await browser.get("/console/migrations", headers=cookie)
        csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        values = {"name": "payments", "reason": "errors", "to": "20", "version": "2"}
        rollback, out = "/console/migrations/rollback", "/console/sign-out"
        forged = await browser.post(rollback, data=values | {"csrf": "x"}, headers=cookie | origin)
        done = await browser.post(rollback, data=values | {"csrf": csrf}, headers=cookie | origin)
        left = await browser.post(out, data={"csrf": csrf}, headers=cookie | origin)
        after = await browser.get("/console/", headers=cookie)

    assert entered.status_code == 303
    attributes = {part.strip() for part in entered.headers["set-cookie"].split(";")}
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= attributes
    assert (forged.status_code, done.status_code, left.status_code, after.status_code) == (403, 200, 303, 303)
    assert secured.stage.migrating.weight == 20
    assert secured.stage.migrating.operations[-1].who == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:{port}"},
        {"Origin": "https://localhost"},
        {"Origin": "https://other.corp:{port}"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_of_another_origin_can_not_act(secured: Secured, headers: dict[str, str]) -> None:
    """Also if it differs by scheme or port only, and even if it had cookie and token."""
    async with secured.browser() as browser:
        await sign_in(browser)
        values = {"name": "payments", "reason": "x", "csrf": await csrf_of(browser)}
        filled = {name: value.format(port=secured.port) for name, value in headers.items()}
        answer = await browser.post("/console/migrations/rollback", data=values, headers=filled)

    assert (answer.status_code, secured.stage.migrating.weight) == (403, 40)


@pytest.mark.parametrize(
    ("host", "expected"),
    [(NAME, 200), (f"{NAME.upper()}:1", 200), ("127.0.0.1", 200), ("other.corp", 421), ("192.0.2.1", 421), ("", 421)],
)
async def test_only_its_own_names_are_answered(secured: Secured, host: str, expected: int) -> None:
    """Else a page under a name that resolves to it would be of its origin (DNS rebinding)."""
    answer = await get(secured.place, "/console/sign-in", f"Host: {host}", tls=secured.trusting)

    assert answer.status == expected


async def test_it_asks_nobody_to_remember_tls(secured: Secured) -> None:
    """HSTS would bind all ports of the host, also that of callers and those of other programs."""
    answer = await get(secured.place, "/console/sign-in", tls=secured.trusting)

    assert answer.status == 200
    assert "strict-transport-security" not in answer.headers


async def test_plain_http_gets_nothing(secured: Secured) -> None:
    """No page, no redirect that somebody in between could change, and no cookie."""
    async with connection(secured.place) as (reader, writer):
        writer.write(b"GET /console/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/" not in await reader.read()


@pytest.mark.parametrize(("host", "expected"), [("", 303), ("Host: localhost\r\n", 303), ("Host: other.corp\r\n", 421)])
async def test_http_1_0(secured: Secured, host: str, expected: int) -> None:
    """Without Host it is of no browser; it needs a sign-in as any other, and the connection ends."""
    answer = await send(secured.place, f"GET /console/ HTTP/1.0\r\n{host}\r\n".encode(), tls=secured.trusting)

    assert answer.status == expected
    assert answer.headers.get("connection", "close") == "close"


async def test_who_stays_keeps_nobody_out(secured: Secured) -> None:
    """Two hundred that have ended TLS and ask nothing, and as many that never end it: they make room."""
    async with contextlib.AsyncExitStack() as stack, secured.browser() as browser:
        await sign_in(browser)
        for number in range(IDLE):
            await stack.enter_async_context(connection(secured.place, tls=secured.trusting))
            half = stack.enter_context(socket.create_connection(secured.place, timeout=60))
            with contextlib.suppress(ConnectionError):
                half.sendall(b"\x16\x03\x01\x02\x00\x01")
            if number % 50 == 49:
                assert (await browser.get("/console/")).status_code == 200
        by_tcp = secured.server._listeners[-1]
        assert len(by_tcp.connections) <= MOST_CONNECTIONS


async def test_a_handshake_byte_by_byte_ends(secured: Secured) -> None:
    """However often a byte comes; others are answered meanwhile."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = secured.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    async with connection(secured.place) as (reader, writer):
        ended = asyncio.ensure_future(reader.read())
        for byte in outgoing.read()[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await get(secured.place, "/livez", tls=secured.trusting)).status == 200
        assert not ended.done()
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                await ended


@pytest.mark.xdist_group("chromium")
async def test_in_a_browser(secured: Secured) -> None:
    """It keeps the cookie, sends it back, and a rollback is done; nothing is said on its console."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium")
    noise: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(base_url=f"https://localhost:{secured.port}", ignore_https_errors=True)
        page = await context.new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("requestfailed", lambda request: noise.append(f"{request.url}: {request.failure}"))
        await page.goto("/console/migrations")
        await page.fill("#name", "alice")
        await page.fill("#password", PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/migrations")
        (cookie,) = await context.cookies()
        await page.fill("#rollback-1", "errors at the bank")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/migrations/rollback")
        text = await page.inner_text("main")
        await browser.close()

    assert (cookie["name"], cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, True, "Strict")
    assert "payments has the weight 20" in text
    assert noise == []


async def test_an_instance_with_such_a_listener(tmp_path: Path) -> None:
    """Its login link has the configured name and https, and the status is closed."""
    port = lasting_port()
    write_certificate(tmp_path)
    admin = f"""[admin]
listen = "0.0.0.0:{port}"
hosts = ["localhost"]
certificate_file = "server.crt"
key_file = "server.key"
operators = {{ alice = "{OPERATORS["alice"]}" }}
"""
    async with site(tmp_path) as place:
        place.config.write_text(place.config.read_text().replace('[admin]\nlisten = ""\n', admin))
        (tmp_path / "server.key").chmod(0o600)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
        async with serving(place), httpx.AsyncClient(verify=trusting, trust_env=False, timeout=60) as browser:
            await place.ready()
            made = json.loads(run_process("admin", "login-link", "--json", cwd=tmp_path).stdout)
            url, _, link = made["url"].partition("?link=")
            entered = await browser.post(url, data={"link": link})
            page = await browser.get(f"https://localhost:{port}/console/")
            closed = await browser.get(f"https://localhost:{port}/api/status")

    assert url == f"https://localhost:{port}/console/sign-in"
    assert entered.headers["set-cookie"].startswith(f"{COOKIE}=")
    assert (page.status_code, closed.status_code) == (200, 404)
