"""A step of a reload that breaks: one configuration is wholly in force, it is said, and the next reload works."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.checks.offline import checked
from proxy.clock import SystemClock
from proxy.credentials.body_signer import BodySigner
from proxy.events import ConfigurationIncomplete, ConfigurationRefused, Event
from proxy.keeper.followers import Followers
from proxy.keeper.generation import Generation
from proxy.keeper.generations import Generations
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of
from tests.keeper.test_reloader import Active, reloader, settings_of
from tests.settings.support import load_text
from tests.upstream.support import eventually


class Configured:
    """A generation whose workers are ready at once and serve when they are let; its run ends when they are killed."""

    def __init__(self, directory: Path) -> None:
        self.settings = settings_of(directory)
        self.snapshot = snapshot_of(self.settings, instance="one")
        self.token_manager = self.signatures = self.workers = self
        self.signers: dict[tuple[str, ...], BodySigner] = {}
        self.admitted = self.closed = False
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Run until the workers have ended."""
        await self._ended.wait()

    def serves(self) -> bool:
        """Return whether callers are served."""
        return self.admitted

    def all_ready(self) -> bool:
        """Return whether the workers are ready."""
        return True

    def admit(self) -> None:
        """Let callers in."""
        self.admitted = True

    def drain(self, **_: Any) -> None:
        """End, since nothing is in flight."""
        self._ended.set()

    def kill(self) -> None:
        """End at once."""
        self._ended.set()

    def statuses(self) -> tuple[()]:
        """Return no workers: they have ended."""
        return ()

    def adopt(self, _: Any) -> None:
        """Take over no token."""

    async def close(self) -> None:
        """Close the token manager, or the keys for bodies."""
        self.closed = True


class Reloading:
    """Generations in a running task group, and a reloader whose parts can be made to fail."""

    def __init__(self, directory: Path) -> None:
        self.clock = SystemClock()
        self.events: list[Event] = []
        self.first, self.second = Configured(directory / "a"), Configured(directory / "b")
        self.generations = Generations(cast("Generation", self.first), clock=self.clock)
        self.broken: set[str] = set()
        self.handed: list[Settings] = []
        self.followed: list[str] = []
        self.lock = asyncio.Lock()
        self.followers = Followers(
            {name: partial(self._follow, name) for name in ("the migrations", "the guard")},
            clock=self.clock,
            observe=self.events.append,
            lock=self.lock,
        )
        text = (directory / "b" / "payproxy.toml").read_text()
        self.reloader = reloader(
            cast("Active", self.first),
            generations=self.generations,
            read=lambda checks: checked(load_text(directory / "b", text), checks),
            prover=cast("Any", self),
            make=lambda *_: self._make(),
            hand_over=self._hand_over,
            followers=self.followers,
            lock=self.lock,
            observe=self.events.append,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the generations, and what tries again, meanwhile."""
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(self.followers.run())
            running = tasks.create_task(self.generations.run())
            await eventually(lambda: self.first.admitted)
            yield
            again.cancel()
            self.generations.stop(grace=0, handed_over=False)
            await running

    @property
    def causes(self) -> list[str]:
        """Return what operators were told."""
        return [one.cause for one in self.events if isinstance(one, ConfigurationRefused | ConfigurationIncomplete)]

    def credential(self, name: str) -> None:
        """Return that no credential is known."""

    async def prove(self, *_: Any) -> None:
        """Find every credential good."""

    def _make(self) -> Generation:
        self._break("make")
        return cast("Generation", self.second)

    async def _hand_over(self, settings: Settings) -> str:
        self.handed.append(settings)
        self._break("hand over")
        return ""

    async def _follow(self, name: str, _: Generation) -> None:
        self._break(name)
        self.followed.append(name)

    def _break(self, name: str) -> None:
        if name in self.broken:
            raise ZeroDivisionError


@pytest.fixture
async def reloading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reloading]:
    """A reloader whose first generation serves."""
    monkeypatch.setattr("proxy.keeper.followers.AGAIN_SECONDS", 0.01)
    it = Reloading(tmp_path)
    monkeypatch.setattr(Configured, "credential", it.credential, raising=False)
    async with it.running():
        yield it


@pytest.mark.parametrize("step", ["make", "hand over"])
async def test_a_step_that_breaks_keeps_the_old_configuration(reloading: Reloading, tmp_path: Path, step: str) -> None:
    """It is wholly in force: its workers serve, the new ones have ended; it is said, and the next reload is taken."""
    it = reloading
    it.broken = {step}

    await it.reloader.reload()

    assert it.generations.current is cast("Any", it.first)
    await eventually(lambda: it.generations.alive == [cast("Any", it.first)])
    assert not it.second.admitted
    assert "ZeroDivisionError" in it.reloader.problem
    assert it.causes == [it.reloader.problem.removeprefix("the last reload was refused: ")]
    assert not it.handed or it.handed[-1] is it.first.settings
    assert not it.followed

    it.second = Configured(tmp_path / "c")
    it.broken = set()
    await it.reloader.reload()
    assert it.generations.current is cast("Any", it.second)
    assert it.reloader.problem == ""
    assert it.followed == ["the migrations", "the guard"]


async def test_what_does_not_follow_the_new_configuration_is_said_and_follows_later(reloading: Reloading) -> None:
    """The new workers serve by then: the rest follows at once, the broken part as soon as it can."""
    it = reloading
    it.broken = {"the migrations"}

    await it.reloader.reload()

    assert it.generations.current is cast("Any", it.second)
    assert it.followed == ["the guard"]
    assert it.reloader.problem == it.followers.problem != ""
    assert it.causes == ["the migrations (ZeroDivisionError)"]

    it.broken = set()
    await eventually(lambda: not it.reloader.problem)
    assert it.followed == ["the guard", "the migrations"]
