"""Callers that count: each try has a number by which the bank knows it, each payment a key that its tries share.

A payment is tried until it is served, with the same Idempotency-Key, as a caller does who has no answer. A GET is tried
once. No try is sent twice by its caller.
"""

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tests.journeys.caller import Address, Answer, Connection, Request, payment
from tests.journeys.fleet import NUMBER, SYSTEM
from tests.journeys.waiting import PATIENCE_SECONDS, until

_PAUSE_SECONDS = 0.1
_AGAIN_SECONDS = 0.05


class Outcome(StrEnum):
    """What a caller knows of a try."""

    SERVED = "served"
    # An error of payproxy's own that says that nothing was sent.
    REFUSED = "refused"
    # HAProxy's 503: it has found no server, or could not connect to it.
    NO_SERVER = "no server"
    # The connection broke, or somebody says that nobody knows.
    UNKNOWN = "unknown"


@dataclass(slots=True, kw_only=True)
class Try:
    """One try by *system*, *started* and *ended* by the loop's clock, "" as *key* for a GET."""

    number: str
    system: str
    key: str
    started: float
    ended: float = 0.0
    answer: Answer | None = None
    broken: str = ""

    @property
    def outcome(self) -> Outcome:
        """Return what the caller knows of it."""
        if self.answer is None:
            return Outcome.UNKNOWN
        if self.answer.status in {200, 201}:
            return Outcome.SERVED
        if "payproxy-request-id" not in self.answer.headers:
            return Outcome.NO_SERVER if self.answer.status == 503 else Outcome.UNKNOWN
        return Outcome.REFUSED if self.answer.json.get("sent_upstream") == "no" else Outcome.UNKNOWN

    @property
    def seconds(self) -> float:
        """Return how long it took."""
        return self.ended - self.started

    def __str__(self) -> str:
        said = self.broken if self.answer is None else f"{self.answer.status} {self.answer.body[:300].decode()}"
        return f"{self.number} {self.key or 'GET'} after {self.seconds:.3f} s: {self.outcome}: {said}"


@dataclass(kw_only=True)
class Callers:
    """The *systems* as callers of what listens at *address*, and all their tries in the order in which they ended."""

    address: Address
    systems: tuple[str, ...]
    tries: list[Try] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Callers"]:
        """Have every system read and pay in turns for the block; then the last payments are served."""
        async with asyncio.TaskGroup() as tasks:
            for system in self.systems:
                tasks.create_task(self._works(system), name=system)
            try:
                yield self
            finally:
                self._over.set()

    async def goes_on(self, number: int = 100) -> None:
        """Return when so many more tries were served that began after this was called."""
        began = asyncio.get_running_loop().time()

        def served() -> bool:
            return sum(one.started >= began for one in self.of(Outcome.SERVED)) >= number

        await until(served, otherwise=f"fewer than {number} more tries were served: {self.counts()}")

    def of(self, *outcomes: Outcome) -> list[Try]:
        """Return the tries with these outcomes."""
        return [one for one in self.tries if one.outcome in outcomes]

    def counts(self) -> Counter[Outcome]:
        """Return how many tries had which outcome."""
        return Counter(one.outcome for one in self.tries)

    async def _works(self, system: str) -> None:
        one = _Caller(self, system)
        try:
            while not self._over.is_set():
                await one.tries("", Request())
                await self._pays(one, f"{system}-{next(self._numbers)}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), _PAUSE_SECONDS)
        finally:
            one.leave()

    async def _pays(self, one: "_Caller", key: str) -> None:
        end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while await one.tries(key, payment(key)) is not Outcome.SERVED:
            if asyncio.get_running_loop().time() > end:
                self.unserved.append(key)
                return
            await asyncio.sleep(_AGAIN_SECONDS)


class _Caller:
    """One system, with a connection that it keeps while it is of use."""

    def __init__(self, callers: Callers, system: str) -> None:
        self._callers = callers
        self._system = system
        self._kept: Connection | None = None

    async def tries(self, key: str, request: Request) -> Outcome:
        """Send *request* once and return what came of it."""
        number = f"{self._system}-try-{next(self._callers._numbers)}"
        headers = {"X-Payproxy-Key": self._system, SYSTEM: self._system, NUMBER: number, **request.headers}
        made = Request(method=request.method, path=request.path, headers=headers, body=request.body, key=request.key)
        loop = asyncio.get_running_loop()
        one = Try(number=number, system=self._system, key=key, started=loop.time())
        try:
            connection = await self._connection()
            one.started = loop.time()
            one.answer = await connection.ask(made)
        except (OSError, EOFError) as error:
            one.broken = type(error).__name__
        one.ended = loop.time()
        if one.answer is None or one.answer.headers.get("connection") == "close":
            self.leave()
        self._callers.tries.append(one)
        return one.outcome

    def leave(self) -> None:
        """Let go of the connection."""
        if self._kept is not None:
            self._kept.leave()
            self._kept = None

    async def _connection(self) -> Connection:
        if self._kept is None:
            address = self._callers.address
            reader, writer = await asyncio.open_connection(*address)
            self._kept = Connection(reader, writer, f"{address[0]}:{address[1]}")
        return self._kept
