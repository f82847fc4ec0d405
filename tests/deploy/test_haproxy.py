"""The real HAProxy with the configuration of deploy/compose: a payment reaches one replica, once."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.deploy.support import ROOT, program
from tests.journeys.caller import Answer, ask, payment
from tests.journeys.waiting import until
from tests.support.haproxy import CONFIGURATION, HAProxy

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
SERVED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Replica:
    """A replica as HAProxy sees it: what it answers to payments (b"": it closes), and what its admin listener says."""

    def __init__(self, *, answer: bytes = SERVED, ready: bytes = READY) -> None:
        self.answer = answer
        self.ready = ready
        self.payments: list[bytes] = []
        self.checks = 0
        self.ports = (0, 0)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, count it, and answer or close."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: ([0-9]+)", head.lower())
        self.payments.append(head + await reader.readexactly(int(length[1]) if length else 0))
        writer.write(self.answer)
        writer.close()

    async def check(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a health check."""
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /readyz HTTP/1.1\r\n")
        self.checks += 1
        writer.write(self.ready)
        writer.close()


@asynccontextmanager
async def running(*replicas: Replica) -> AsyncIterator[None]:
    """Let the replicas listen for the block."""
    async with AsyncExitStack() as stack:
        for one in replicas:
            servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (one.take, one.check)]
            traffic, admin = (server.sockets[0].getsockname()[1] for server in servers)
            one.ports = (traffic, admin)
            for server in servers:
                await stack.enter_async_context(server)
        yield


async def balanced(folder: Path, replicas: list[Replica], *, configuration: Path = CONFIGURATION) -> Answer:
    """Send a payment through HAProxy, once all replicas were checked often enough for it to know them."""
    servers = {str(number): one.ports for number, one in enumerate(replicas)}
    async with HAProxy(folder, servers, configuration=configuration).running() as front:
        await until(lambda: all(one.checks >= 3 for one in replicas), otherwise="haproxy does not check")
        return await ask(("127.0.0.1", front.port), payment("one"))


def _written(folder: Path, change: Callable[[str], str]) -> Path:
    path = folder / "haproxy.cfg"
    path.write_text(change(CONFIGURATION.read_text()))
    return path


def _conn_failure(text: str) -> str:
    """Put in the lines of the README for those who want a refused connection tried at another replica."""
    readme = (ROOT / "deploy" / "compose" / "README.md").read_text()
    found = re.search(r"```text\n(  retries .*?)```", readme, re.DOTALL)
    assert found
    changed = text.replace("  retries 0\n  no option redispatch\n  retry-on none\n", found[1])
    assert changed != text
    return changed


def _dangerous(text: str) -> str:
    return text.replace("retries 0", "retries 3").replace("retry-on none", "retry-on all-retryable-errors")


def test_haproxy_accepts_the_configuration(tmp_path: Path) -> None:
    """`haproxy -c` finds no fault, with the variables that compose.yaml sets."""
    done = subprocess.run(
        [program("haproxy"), "-c", "-f", CONFIGURATION],
        env=HAProxy(tmp_path, dict.fromkeys("123", (1, 2))).variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize(
    ("change", "twice"),
    [(str, False), (_conn_failure, False), (_dangerous, True)],
    ids=["as it is", "a refused connection is tried again", "all-retryable-errors, which the file warns of"],
)
async def test_a_payment_that_a_replica_has_read_is_sent_to_no_other(
    tmp_path: Path, change: Callable[[str], str], *, twice: bool
) -> None:
    """Each replica closes without an answer: the caller gets 502, and HAProxy has sent the payment once."""
    replicas = [Replica(answer=b"") for _ in range(3)]
    async with running(*replicas):
        answer = await balanced(tmp_path, replicas, configuration=_written(tmp_path, change))

    assert answer.status == 502
    assert (sum(len(one.payments) for one in replicas) > 1) == twice


async def test_a_replica_that_is_not_ready_gets_nothing(tmp_path: Path) -> None:
    """Its traffic port still answers: the check asks /readyz."""
    replicas = [Replica(ready=NOT_READY), Replica(), Replica(ready=NOT_READY)]
    async with running(*replicas):
        answer = await balanced(tmp_path, replicas)

    assert answer.status == 201
    assert [len(one.payments) for one in replicas] == [0, 1, 0]


async def test_the_callers_address_is_passed_on(tmp_path: Path) -> None:
    """In X-Forwarded-For, which payproxy.toml believes of HAProxy's network."""
    replicas = [Replica() for _ in range(3)]
    async with running(*replicas):
        await balanced(tmp_path, replicas)

    (request,) = [request for one in replicas for request in one.payments]
    assert b"x-forwarded-for: 127.0.0.1" in request.lower()
