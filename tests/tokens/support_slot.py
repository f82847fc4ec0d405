"""A slot with a bank, a clock and a board to watch it by."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import TokenUnavailable
from proxy.secret import Secret
from proxy.tokens.response import Minted, MintRefused
from proxy.tokens.slot import Slot
from tests.support.clock import ManualClock, settle
from tests.tokens.support import KEY, Events, FixedEntropy

ORIGINS = frozenset({"https://api.test:443"})
OUTAGE = TokenUnavailable("The token endpoint gave no token (status 500).", cause="500, an empty body")
REFUSAL = MintRefused("refused (invalid_client).", error="invalid_client", cause="401 invalid_client: no")


class Bank:
    """The token endpoint as a slot sees it: *results* one by one, the last one for ever; *gate* holds answers back."""

    def __init__(self, *results: float | Exception) -> None:
        self.results = list(results) or [3600.0]
        self.mints = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0

    async def mint(self) -> Minted:
        """Answer with the next result: a lifetime or an error."""
        self.mints += 1
        number = self.mints
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return Minted(value=Secret(f"token-{number}"), lifetime=result)


class World:
    """A slot, its bank, its clock and all that it told."""

    def __init__(self, *results: float | Exception, jitter: float = 0) -> None:
        self.bank = Bank(*results)
        self.clock = ManualClock()
        self.events = Events()
        self.published: list[tuple[int | None, str | None]] = []
        self.asked: list[tuple[int, float]] = []
        serial = itertools.count(1)
        self.slot = Slot(
            KEY,
            origins=ORIGINS,
            mint=self.bank.mint,
            clock=self.clock,
            entropy=FixedEntropy(jitter),
            observe=self.events,
            publish=self._publish,
            serial=lambda: next(serial),
            ask=lambda mint, since: self.asked.append((mint, since)),
        )

    def _publish(self, slot: Slot) -> None:
        self.published.append(
            (slot.current.mint if slot.current else None, slot.failure.code if slot.failure else None)
        )

    async def replace(self, mint: int, source: str, *, route: str = "", behind: bool = False) -> str:
        """Report a refusal to *source*, on a route of that name if none is given."""
        return await self.slot.replace(mint, route=route or source, source=source, behind=behind)

    @property
    def mint(self) -> int | None:
        """Return the serial of the current token."""
        return self.slot.current.mint if self.slot.current else None


@asynccontextmanager
async def running(*results: float | Exception, jitter: float = 0) -> AsyncIterator[World]:
    """Give a world whose slot runs and has made its first attempt."""
    world = World(*results, jitter=jitter)
    task = asyncio.create_task(world.slot.run())
    try:
        await settle()
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
