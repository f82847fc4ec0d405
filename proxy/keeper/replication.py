"""The interface through which the migrations use the state shared by all replicas."""

import asyncio
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.migration.side import Policy
from proxy.migration.state import State
from proxy.settings.extras import installation
from proxy.settings.model import Settings


class ReplicasUnreachable(Exception):
    """The shared state can't be reached now; the message says why."""


class SharedStateUnusable(RuntimeError):
    """[state] can't be used as it is; the message says what to do."""


class Replication(Protocol):
    """States of migrations that every replica adopts within two seconds."""

    @property
    def problem(self) -> str:
        """Return why the shared state is unreliable, "" if it is reliable."""

    @property
    def alone(self) -> bool:
        """Return whether there is no other replica."""

    async def begin(self) -> None:
        """Load the shared state before serving, if it is reachable now."""

    async def run(self) -> None:
        """Stay connected, until cancelled."""

    async def put(self, name: str, state: State, *, before: State) -> bool:
        """Replace *before* by *state*; False if the current state is another one. Raise ReplicasUnreachable."""

    def hurry(self) -> None:
        """Publish new states to the other replicas at once."""

    async def settled(self, states: Mapping[str, str]) -> bool:
        """Return True once no other replica sends by the state before *states* (identities by migration).

        False if other states are in force by now. Raises ReplicasUnreachable, with the reason, if that is unknown now.
        """

    async def decide_by(self, *policies: Mapping[str, Policy]) -> None:
        """Publish the policies, by migration, that workers here decide by, and fetch those of other replicas."""

    def policies(self) -> Mapping[str, Sequence[Policy]]:
        """Return, by migration, the policies of other replicas' workers, as last received."""

    async def give_up_lost(self, state: str) -> tuple[str, ...]:
        """Stop waiting for replicas that vanished without leaving, and return their names; raise ReplicasUnreachable.

        A replica that still counts as alive is given up too if the change to *state*, an identity, finds it gone.
        """


class SingleInstance:
    """The implementation without other replicas."""

    problem = ""
    alone = True

    async def begin(self) -> None:
        """Do nothing: no state is shared."""

    async def run(self) -> None:
        """Wait to be cancelled."""
        await asyncio.Event().wait()

    async def put(self, name: str, state: State, *, before: State) -> bool:  # noqa: ARG002 - the protocol's
        """Return True: there is no other replica."""
        return True

    def hurry(self) -> None:
        """Do nothing: there is no other replica."""

    async def settled(self, states: Mapping[str, str]) -> bool:  # noqa: ARG002 - the protocol's
        """Return True: no other replica sends requests."""
        return True

    async def decide_by(self, *policies: Mapping[str, Policy]) -> None:
        """Do nothing: there is no other replica."""

    def policies(self) -> Mapping[str, Sequence[Policy]]:
        """Return {}: there is no other replica."""
        return {}

    async def give_up_lost(self, state: str) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's
        """Return (): there is no other replica."""
        return ()


def share_of(
    settings: Settings, *, host: str, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy
) -> Replication:
    """Return the replication that [state] configures; raise SharedStateUnusable."""
    if not settings.state.shared:
        return SingleInstance()
    if find_spec("redis") is None:
        raise SharedStateUnusable(f"[state] names a Redis, and what it needs is not installed; {installation('redis')}")
    # The client is in the [redis] extra.
    share: Replication = import_module("proxy.keeper.redis_state").replicas_of(
        settings, host=host, weights=weights, pins=pins, clock=clock, entropy=entropy
    )
    return share
