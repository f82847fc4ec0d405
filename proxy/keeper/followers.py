"""The components that follow the active configuration; one that can't is reported, and tried again until it can."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from proxy.clock import Clock
from proxy.events import ConfigurationIncomplete, Observer
from proxy.keeper.generation import Generation

AGAIN_SECONDS = 5.0

# Applies the settings of a generation; applying them twice must be the same as once.
Follow = Callable[[Generation], Awaitable[None] | None]


class Followers:
    """Applies a generation that has begun to serve to everything else: *parts* by their names for operators.

    By then the new workers serve and the old ones drain, so it can't be refused any more: a defect in one part must
    neither keep the others on the old configuration nor end the keeper. *lock* is held for a further try.
    """

    def __init__(self, parts: Mapping[str, Follow], *, clock: Clock, observe: Observer, lock: asyncio.Lock) -> None:
        self._parts = parts
        self._clock = clock
        self._observe = observe
        self._lock = lock
        self._failed: dict[str, str] = {}
        self._generation: Generation | None = None

    @property
    def problem(self) -> str:
        """Return which parts do not follow the active configuration yet, "" if all do."""
        return f"the new configuration is in force, but not yet for {self._causes()}" if self._failed else ""

    async def follow(self, generation: Generation) -> None:
        """Let every part follow *generation*; report those that can't."""
        self._generation = generation
        self._failed = {}
        await self._try(generation, self._parts)
        if self._failed:
            self._observe(ConfigurationIncomplete(cause=self._causes(), retry_in=AGAIN_SECONDS))

    async def run(self) -> None:
        """Try again the parts that failed, until cancelled."""
        while True:
            await self._clock.sleep(AGAIN_SECONDS)
            async with self._lock:
                if self._generation is not None:
                    await self._try(self._generation, tuple(self._failed))

    async def _try(self, generation: Generation, names: Iterable[str]) -> None:
        for name in names:
            try:
                following = self._parts[name](generation)
                if following is not None:
                    await following
            except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves
                self._failed[name] = type(error).__name__
            else:
                self._failed.pop(name, None)

    def _causes(self) -> str:
        return ", ".join(f"{name} ({error})" for name, error in self._failed.items())

    def __repr__(self) -> str:
        return f"<Followers {self._causes() or 'all follow'}>"
