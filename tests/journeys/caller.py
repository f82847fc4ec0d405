"""A caller that sends each request exactly once: what it reports is what happened on the wire."""

import asyncio
import contextlib
import itertools
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from tests.journeys.waiting import until

ANSWER_SECONDS = 60.0
_AGAIN_SECONDS = 0.02
_NO_HEADERS: Mapping[str, str] = {}

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to send; *key* is its Idempotency-Key, by which log and bank know it again, "" for none."""

    method: str = "GET"
    path: str = "/payment/helloworld"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    key: str = ""

    def encode(self, host: str) -> bytes:
        """Return the bytes of the request."""
        headers = {"Host": host, **self.headers}
        if self.key:
            headers["Idempotency-Key"] = self.key
        if self.body or self.method == "POST":
            headers["Content-Length"] = str(len(self.body))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + self.body


def payment(key: str) -> Request:
    """Return a POST that the bank executes."""
    return Request(method="POST", path="/payment/v2/payments", key=key, body=b'{"amount": 10.00,  "note": "as it is"}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the body parsed."""
        return json.loads(self.body)

    @property
    def request_id(self) -> str:
        """Return the proxy's id of the request."""
        return self.headers["payproxy-request-id"]

    @property
    def problem(self) -> str:
        """Return what the proxy's problem document says, "" if it answers with none."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return f"{self.status} {self.json.get('code')}: {self.json.get('detail')}"


class Connection:
    """One kept-alive connection; ConnectionError and IncompleteReadError tell that it was cut."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    async def ask(self, request: Request) -> Answer:
        """Send *request* and return its whole answer."""
        async with asyncio.timeout(ANSWER_SECONDS):
            self.send(request)
            await self._writer.drain()
            return await self._answer()

    def send(self, request: Request) -> None:
        """Send *request* without waiting; `answer` has what comes of it."""
        self._writer.write(request.encode(self._host))

    async def answer(self) -> Answer:
        """Return the next whole answer."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._answer()

    def leave(self) -> None:
        """Close the connection at once, whatever is still to come on it."""
        self._writer.close()

    async def _answer(self) -> Answer:
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self._body(headers)
        return Answer(status=int(first.split()[1]), headers=headers, body=body)

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await self._reader.readline(), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Connection]:
    """Open a connection for the block; OSError if it is refused."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield Connection(reader, writer, f"{address[0]}:{address[1]}")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(address: Address, request: Request) -> Answer:
    """Send *request* on a connection of its own."""
    async with connected(address) as connection:
        return await connection.ask(request)


async def get(address: Address, path: str, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
    """Send a GET on a connection of its own."""
    return await ask(address, Request(path=path, headers=headers))


class Load:
    """Keeps *connections* busy with what *make* returns for the numbers from 1 on, as long as the block lasts.

    A connection that ends after an answer with `Connection: close` is opened anew. A refused connect ends that part of
    the load once *ending* is set, or is tried again if the load is *stubborn*; else it is a failure, as is every
    connection that ends without the answer to what was sent on it. Not kept *alive*: a new connection for each request.
    There are at most *most_per_second* requests, as far as one has to know how many there can be.
    """

    def __init__(
        self,
        address: Address,
        make: Callable[[int], Request],
        *,
        connections: int,
        stubborn: bool = False,
        alive: bool = True,
        most_per_second: float = math.inf,
    ) -> None:
        self.address = address
        self.ending = False
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self._make = make
        self._connections = connections
        self._stubborn = stubborn
        self._alive = alive
        self._numbers = itertools.count(1)
        self._pause = connections / most_per_second
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def statuses(self) -> Counter[int]:
        """Return how many answers had which status."""
        return Counter(answer.status for answer in self.answers)

    @property
    def problems(self) -> Counter[str]:
        """Return what the proxy's own errors said, and how often."""
        return Counter(answer.problem for answer in self.answers if answer.problem)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep_busy()) for _ in range(self._connections)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def goes_on(self, number: int) -> None:
        """Return when *number* more requests were answered."""
        wanted = len(self.answers) + number
        await until(lambda: len(self.answers) >= wanted, otherwise=f"the load stands at {len(self.answers)} answers")

    async def stop(self) -> None:
        """Send nothing more, and return when all is answered that was sent."""
        self._stopped = True
        await self.ended()

    async def ended(self) -> None:
        """Return when no part of the load goes on."""
        await asyncio.gather(*self._tasks)

    async def _keep_busy(self) -> None:
        while not self._stopped:
            try:
                async with connected(self.address) as connection:
                    await self._keep_asking(connection)
            except OSError as error:
                if self.ending:
                    return
                if not self._stubborn:
                    self.failures.append(f"connect: {type(error).__name__}")
                    return
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _keep_asking(self, connection: Connection) -> None:
        while not self._stopped:
            request = self._make(next(self._numbers))
            again_at = asyncio.get_running_loop().time() + self._pause
            try:
                answer = await connection.ask(request)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(f"{request.key or request.path}: {type(error).__name__}")
                return
            self.answers.append(answer)
            if self._pause:
                await asyncio.sleep(again_at - asyncio.get_running_loop().time())
            if not self._alive or answer.headers.get("connection") == "close":
                return
