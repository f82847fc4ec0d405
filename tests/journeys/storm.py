"""Callers without patience: they leave, ask twice at once, send again without a pause, and note what they were told.

A payment is sent again with the same Idempotency-Key until its caller has read a definite answer (2xx or 4xx) whole,
and never after that. Every try has a number of its own (X-Try), by which the banks know it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random  # noqa: TID251 - a seed, so that a failure can be had again

from tests.journeys.caller import Address, Answer, Connection, Request
from tests.journeys.two_banks import PAYMENTS, TRY, pays

# A caller that is patient waits for longer than the proxy waits for the bank.
_PATIENT_SECONDS = 5.0
_IMPATIENT_SECONDS = (0.01, 0.2)
_HEDGE_SECONDS = (0.0, 0.06)
_CONNECT_AGAIN_SECONDS = 0.1
NO_CONNECTION = "refused to connect"
# Shares of tries that are patient, impatient (both on a kept connection or a new one), and hedged.
_PATIENT, _IMPATIENT = 0.55, 0.3
_NEW_CONNECTION = 0.3
_READS = 0.1


@dataclass(slots=True, kw_only=True)
class Try:
    """One try: when it was sent, and what came of it; *outcome* is how it ended where there is no answer."""

    key: str
    number: str
    started: float
    ended: float = 0.0
    answer: Answer | None = None
    outcome: str = "left"

    @property
    def code(self) -> str:
        """Return the code of the proxy's own error, "" for anything else."""
        error = self.answer is not None and self.answer.headers.get("content-type") == "application/problem+json"
        return str(self.answer.json["code"]) if self.answer is not None and error else ""

    @property
    def sent(self) -> str:
        """Return what an error of the proxy's own says of having been sent."""
        return str(self.answer.json["sent_upstream"]) if self.answer is not None and self.code else ""

    @property
    def definite(self) -> bool:
        """Return whether its caller knows what became of the payment."""
        return self.answer is not None and 200 <= self.answer.status < 500

    def __str__(self) -> str:
        if self.answer is not None:
            return f"{self.answer.status} {self.code} {self.sent}".rstrip()
        return self.outcome


@dataclass(kw_only=True)
class Storm:
    """The callers of whatever is at *address* now, all that they tried, and the payments that were never served."""

    address: Callable[[], Address]
    tries: list[Try] = field(default_factory=list)
    reads: list[Try] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    unserved: set[str] = field(default_factory=set)
    over: bool = False
    # Until when, by the loop's clock, the last payments are tried again.
    until: float = float("inf")
    _keys: "count[int]" = field(default_factory=lambda: count(1))
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def works(self, name: str, *, seed: int) -> None:
        """Pay as the caller *name*, and read now and then, until the storm is over and the last payment is served."""
        caller = _Caller(self, name, Random(seed))  # noqa: S311 - no secret
        try:
            while not self.over:
                if caller.chance.random() < _READS:
                    await caller.read()
                else:
                    await caller.pay(f"key-{next(self._keys)}")
        finally:
            caller.leave()

    def next_try(self, key: str) -> Try:
        """Return a new try of *key*, on the list."""
        one = Try(key=key, number=f"try-{next(self._numbers)}", started=asyncio.get_running_loop().time())
        (self.tries if key else self.reads).append(one)
        return one


class _Caller:
    """One caller, with a connection that it keeps while it is of use."""

    def __init__(self, storm: Storm, name: str, chance: Random) -> None:
        self.chance = chance
        self._storm = storm
        self._name = name
        self._kept: Connection | None = None

    async def pay(self, key: str) -> None:
        """Send the payment *key* until there is a definite answer."""
        while not await self._is_paid(key):
            if asyncio.get_running_loop().time() > self._storm.until:
                self._storm.unserved.add(key)
                return
        self._storm.served.add(key)

    async def read(self) -> None:
        """Send a GET and wait for its answer."""
        one = self._storm.next_try("")
        request = Request(path=PAYMENTS, headers={"X-Payproxy-Key": self._name, TRY: one.number})
        await self._answered(one, request, within=_PATIENT_SECONDS)

    def leave(self) -> None:
        """Let go of the connection."""
        if self._kept is not None:
            self._kept.leave()
            self._kept = None

    async def _is_paid(self, key: str) -> bool:
        """Try once, or twice at once; return whether there was a definite answer."""
        how = self.chance.random()
        if how < _PATIENT:
            return await self._ask(key, within=_PATIENT_SECONDS)
        if how < _PATIENT + _IMPATIENT:
            return await self._ask(key, within=self.chance.uniform(*_IMPATIENT_SECONDS))
        return await self._ask_twice(key)

    async def _ask(self, key: str, *, within: float) -> bool:
        one = self._storm.next_try(key)
        await self._answered(one, pays(key, caller=self._name, number=one.number), within=within)
        return one.definite

    async def _ask_twice(self, key: str) -> bool:
        """Send it again on a second connection while the first try has no answer; the first definite answer counts."""
        first = asyncio.create_task(self._ask(key, within=_PATIENT_SECONDS))
        await asyncio.wait((first,), timeout=self.chance.uniform(*_HEDGE_SECONDS))
        if first.done():
            return first.result()
        beside = _Caller(self._storm, self._name, self.chance)
        second = asyncio.create_task(beside._ask(key, within=_PATIENT_SECONDS))
        pending, paid = {first, second}, False
        while pending and not paid:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            paid = any(task.result() for task in done)
        for task in pending:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        beside.leave()
        return paid

    async def _answered(self, one: Try, request: Request, *, within: float) -> None:
        """Send the try *one* and note its answer, or that there was none *within* so many seconds."""
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(within):
                connection = await self._connection()
                one.started = loop.time()
                connection.send(request)
                one.answer = await connection.answer()
        except ConnectionRefusedError:
            one.outcome = NO_CONNECTION
            await asyncio.sleep(_CONNECT_AGAIN_SECONDS)
        except (OSError, EOFError) as error:
            one.outcome = type(error).__name__  # TimeoutError is an OSError too: the caller leaves
        finally:
            one.ended = loop.time()
            if connection is not None:
                self._keep(connection, one.answer)

    async def _connection(self) -> Connection:
        if self._kept is not None and self.chance.random() >= _NEW_CONNECTION:
            kept, self._kept = self._kept, None
            return kept
        address = self._storm.address()
        reader, writer = await asyncio.open_connection(*address)
        return Connection(reader, writer, f"{address[0]}:{address[1]}")

    def _keep(self, connection: Connection, answer: Answer | None) -> None:
        """Keep a connection whose answer was read whole, if it goes on; leave any other."""
        if answer is None or answer.headers.get("connection") == "close":
            connection.leave()
            return
        self.leave()
        self._kept = connection
