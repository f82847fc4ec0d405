"""Programs that people have: whatever the bank does, it gets each of their calls once.

Some of them send again by themselves when a connection ends without an answer (finding 3): JDK's HttpURLConnection a
POST, its HttpClient a GET, wget anything, urllib3 a GET. That is why the proxy always answers.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import shutil
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.upstream.certificates import Authority
from tests.upstream.support import OK, Bank, Peer, says, says_and_closes, says_and_resets, says_nothing
from tests.worker.support import proxy
from tests.worker.tls import listening, product_context

PROGRAMS = Path(__file__).parent / "programs"
PATIENCE_SECONDS = 50.0
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
# What the bank does, and the status that the caller gets.
FATES = {
    "answers": (says(OK), 200),
    "resets": (says_and_resets(b""), 502),
    "closes": (says_and_closes(b""), 502),
    "half-a-head": (says_and_closes(b"HTTP/1.1 200 OK\r\nX-"), 502),
    "nonsense": (says(b"nonsense\r\n\r\n"), 502),
    "truncates": (says_and_closes(LENGTH), 502),
    "truncates-with-reset": (says_and_resets(LENGTH), 502),
    "truncates-chunks": (says_and_closes(CHUNKS), 502),
    "stalls": (says_nothing, 504),
    "stalls-half-way": (says(LENGTH), 504),
    "stalls-in-chunks": (says(CHUNKS), 504),
    "is-busy": (says(BUSY), 503),
}
UPSTREAM = {"response_timeout": 0.3}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a program is told to ask for, and what it is to get."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Trust:
    """How programs reach the proxy: over TLS if there is a context, by the certificate of an authority in a file."""

    scheme: str
    context: ssl.SSLContext | None
    authority: Path | None


@pytest.fixture(params=["http", "https"])
def trust(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trust:
    """Each program by TCP and by TLS; those that take their authorities from the environment have ours there."""
    if request.param == "http":
        return Trust(scheme="http", context=None, authority=None)
    authority = Authority(tmp_path)
    file = tmp_path / "authority.crt"
    file.write_bytes(authority.own.certificate.public_bytes(Encoding.PEM))
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        monkeypatch.setenv(name, str(file))
    settings = tmp_path / "wgetrc"
    settings.write_text(f"ca_certificate = {file}\n")
    monkeypatch.setenv("WGETRC", str(settings))
    return Trust(scheme="https", context=product_context(authority.identity("server")), authority=file)


def calls() -> list[Call]:
    """Return each fate for GET and POST, and again, so that kept connections have a past; no two paths are the same."""
    numbers = itertools.count(1)
    return [
        Call(method=method, path=f"/open/{name}/{next(numbers)}", status=status)
        for name, (_, status) in [*FATES.items(), *FATES.items()]
        for method in ("GET", "POST")
    ]


class Moody:
    """A step: the bank does what the path of the request says."""

    bank: Bank

    async def __call__(self, peer: Peer) -> None:
        """Do it."""
        target = self.bank.requests[-1].head.split(b" ")[1].decode()
        await FATES[target.split("/")[2]][0](peer)


async def printed(*command: str) -> str:
    """Return what *command* prints, however it ends; it is killed after a time."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode()


async def assert_each_call_is_sent_once(
    directory: Path, make: Callable[[str, list[Call]], Awaitable[list[int]]], trust: Trust
) -> None:
    """Let *make*, given the base URL, make all calls and return their statuses; the bank counts."""
    moody = Moody()
    async with proxy(directory, moody, upstream=UPSTREAM) as it, contextlib.AsyncExitStack() as stack:
        moody.bank = it.bank
        wanted = calls()
        port = it.port if trust.context is None else await stack.enter_async_context(listening(it, trust.context))
        statuses = await make(f"{trust.scheme}://127.0.0.1:{port}", wanted)

        seen = Counter(b" ".join(request.head.split(b" ")[:2]).decode() for request in it.bank.requests)
        assert seen == Counter({f"{call.method} {call.path}": 1 for call in wanted})
        assert list(zip(wanted, statuses, strict=True)) == [(call, call.status) for call in wanted]
        assert all(
            request.body == (b'{"amount": 1}' if b"POST" in request.head else b"") for request in it.bank.requests
        )


def program(*command: str) -> Callable[[str, list[Call]], Awaitable[list[int]]]:
    """Return what lets *command* make all calls in one process."""

    async def make(base: str, wanted: list[Call]) -> list[int]:
        words = [word for call in wanted for word in (call.method, call.path)]
        output = await printed(*command, base, *words)
        assert output.replace("\n", "").isdigit(), output
        return [int(line) for line in output.split()]

    return make


def needs(name: str) -> None:
    """Skip the test where the program *name* is missing."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("client", ["requests", "httpx", "urllib3"])
async def test_python_clients_are_sent_once(tmp_path: Path, client: str, trust: Trust) -> None:
    """As they come, with the retries that they have by default."""
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed: pip install '.[test]'")
    await assert_each_call_is_sent_once(tmp_path, program(sys.executable, str(PROGRAMS / "calls.py"), client), trust)


@pytest.mark.parametrize("client", ["fetch", "http"])
async def test_node_clients_are_sent_once(tmp_path: Path, client: str, trust: Trust) -> None:
    """Both keep connections alive."""
    needs("node")
    await assert_each_call_is_sent_once(tmp_path, program("node", str(PROGRAMS / "calls.mjs"), client), trust)


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the compiled Calls.java."""
    return tmp_path_factory.mktemp("classes")


@pytest.mark.parametrize("client", ["HttpURLConnection", "HttpClient"])
async def test_jdk_clients_are_sent_once(tmp_path: Path, classes: Path, client: str, trust: Trust) -> None:
    """HttpURLConnection sends a POST again, HttpClient a GET, wherever a connection ends without an answer."""
    needs("javac")
    if not (classes / "Calls.class").exists():
        assert await printed("javac", "-d", str(classes), str(PROGRAMS / "Calls.java")) == ""
    options = ["-XX:TieredStopAtLevel=1", "-cp", str(classes)]
    if trust.authority is not None:
        store = tmp_path / "authorities.p12"
        command = ("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", str(trust.authority))
        await printed(*command, "-keystore", str(store), "-storepass", "changeit")
        options += [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStorePassword=changeit"]
    await assert_each_call_is_sent_once(tmp_path, program("java", *options, "Calls", client), trust)


async def test_curl_is_sent_once(tmp_path: Path, trust: Trust) -> None:
    """One process for each call."""
    needs("curl")

    async def make(base: str, wanted: list[Call]) -> list[int]:
        options = ("-sS", "-o", str(tmp_path / "body"), "-w", "%{http_code}")
        data = {"GET": (), "POST": ("--data-binary", '{"amount": 1}')}
        return [int(await printed("curl", *options, *data[call.method], base + call.path)) for call in wanted]

    await assert_each_call_is_sent_once(tmp_path, make, trust)


async def test_wget_is_sent_once(tmp_path: Path, trust: Trust) -> None:
    """One process for each call; it would try up to 20 times, POST too.

    After a 504 it does so whoever says it (GATEWAYTIMEOUT in its http.c, 1.21): only --tries=1 keeps it from that.
    """
    needs("wget")

    async def make(base: str, wanted: list[Call]) -> list[int]:
        return [_status(await printed("wget", *_wget_options(call), base + call.path)) for call in wanted]

    await assert_each_call_is_sent_once(tmp_path, make, trust)


def _wget_options(call: Call) -> list[str]:
    data = ["--post-data", '{"amount": 1}'] if call.method == "POST" else []
    return ["-S", "-O", "/dev/null", *(["--tries=1"] if call.status == 504 else []), *data]


def _status(output: str) -> int:
    """Return the one status that wget got."""
    (line,) = [line for line in output.splitlines() if line.strip().startswith("HTTP/1.1 ")]
    return int(line.split()[1])
