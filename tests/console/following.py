"""Who follows the live tail, as an HTTP client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

EVENTS = "/console/requests/tail/events"
PAGE = "/console/requests/tail"


class Events:
    """The events of a stream, without those that tell only how far it is; *position* is the latest id."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.position = ""
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, Any]:
        """Return the name and the data of the next event; StopAsyncIteration at the end."""
        async with asyncio.timeout(60):
            while True:
                name, data = await self._any()
                if name != "at":
                    return name, data

    async def reached(self) -> str:
        """Return the position after what has come so far."""
        async with asyncio.timeout(60):
            while (await self._any())[0] != "at":
                pass
        return self.position

    async def _any(self) -> tuple[str, Any]:
        values: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            values[name] = value
            if not line and "data" in values:
                self.position = values.get("id", self.position)
                return values.get("event", ""), json.loads(values["data"])
        raise StopAsyncIteration


@asynccontextmanager
async def following(browser: httpx.AsyncClient, position: str = "", **filters: str) -> AsyncIterator[Events]:
    """Open a stream; yield its events once it is there."""
    headers = {"Last-Event-ID": position} if position else {}
    async with browser.stream("GET", EVENTS, params=filters, headers=headers) as answer:
        yield Events(answer)


async def texts(events: Events, number: int = 1) -> list[str]:
    """Return the paths of the next *number* records."""
    return [(await events.next())[1]["cells"][2]["text"] for _ in range(number)]
