"""What all replicas have in common, as the migrations see it."""

import asyncio
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.migration.state import State
from proxy.settings.extras import installation
from proxy.settings.model import Settings


class ReplicasUnreachable(Exception):
    """What replicas share can't be reached now; the message says why."""


class SharedStateUnusable(RuntimeError):
    """[state] can't be used as it is; the message says what to do."""


class Replication(Protocol):
    """States of migrations that every replica takes over within two seconds."""

    @property
    def problem(self) -> str:
        """Return why it can't be relied on, "" if it can."""

    @property
    def alone(self) -> bool:
        """Return whether there is no other replica."""

    async def begin(self) -> None:
        """Take over what is shared before anyone is served, if it can be had now."""

    async def run(self) -> None:
        """Stay in touch, until cancelled."""

    async def put(self, name: str, state: State, *, before: State) -> bool:
        """Put *state* in place of *before*; False if something else stands there. Raises ShareAway."""

    def hurry(self) -> None:
        """Tell the others at once what they don't know."""

    async def settled(self, states: Mapping[str, str]) -> bool:
        """Return once no other replica sends by what was in force before *states*, identities by migration.

        False if other states are in force by now. Raises ShareAway if that can't be said now; the message says why.
        """

    async def decide_by(self, *policies: Mapping[str, dict[str, Any]]) -> None:
        """Tell the others by which policies, by migration, workers here decide, and hear by which theirs do."""

    def policies(self) -> Mapping[str, list[dict[str, Any]]]:
        """Return by migration the policies by which workers of other replicas decide, as last heard."""

    async def give_up_lost(self, state: str) -> tuple[str, ...]:
        """Wait no longer for replicas that went without leaving, and return their names; raises ShareAway.

        What counts as living still is given up too if the change to *state*, an identity, finds it gone.
        """


class SingleInstance:
    """No other replica."""

    problem = ""
    alone = True

    async def begin(self) -> None:
        """Nothing is shared."""

    async def run(self) -> None:
        """Wait to be cancelled."""
        await asyncio.Event().wait()

    async def put(self, name: str, state: State, *, before: State) -> bool:  # noqa: ARG002 - the protocol's
        """Nobody else has to see it first."""
        return True

    def hurry(self) -> None:
        """Nobody is to be told."""

    async def settled(self, states: Mapping[str, str]) -> bool:  # noqa: ARG002 - the protocol's
        """Nobody else sends."""
        return True

    async def decide_by(self, *policies: Mapping[str, dict[str, Any]]) -> None:
        """Nobody is to be told."""

    def policies(self) -> Mapping[str, list[dict[str, Any]]]:
        """Nobody else decides."""
        return {}

    async def give_up_lost(self, state: str) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's
        """Nobody is lost."""
        return ()


def share_of(
    settings: Settings, *, host: str, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy
) -> Replication:
    """Return what [state] names; raises ShareUnusable."""
    if not settings.state.shared:
        return SingleInstance()
    if find_spec("redis") is None:
        raise SharedStateUnusable(f"[state] names a Redis, and what it needs is not installed; {installation('redis')}")
    # The client is the [redis] extra.
    share: Replication = import_module("proxy.keeper.redis_state").replicas_of(
        settings, host=host, weights=weights, pins=pins, clock=clock, entropy=entropy
    )
    return share
