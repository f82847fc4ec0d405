"""The interface through which the migrations use the state shared by all replicas."""

import asyncio
from collections.abc import Mapping, Sequence

from proxy.migration.side import Policy
from proxy.migration.state import MigrationState


class ReplicasUnreachable(Exception):
    """The shared state can't be reached now; the message says why."""


class SharedStateUnusable(RuntimeError):
    """[state] can't be used as it is; the message says what to do."""


class Replication:
    """The state of migrations that all replicas share. This class is for one instance alone; `Replicas` is for more."""

    alone = True

    @property
    def problem(self) -> str:
        """Return why the shared state is unreliable, "" if it is reliable."""
        return ""

    @property
    def others(self) -> tuple[str, ...]:
        """Return the names of the other replicas that were alive when last asked."""
        return ()

    async def begin(self) -> None:
        """Load the shared state before serving, if it is reachable now."""

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        await asyncio.Event().wait()

    async def put(self, name: str, state: MigrationState, *, before: MigrationState) -> bool:  # noqa: ARG002 - there is no other replica
        """Replace *before* by *state*; False if the current state is another one. Raise ReplicasUnreachable."""
        return True

    def publish_now(self) -> None:
        """Publish new states to the other replicas at once."""

    async def settled(self, states: Mapping[str, str]) -> bool:  # noqa: ARG002 - there is no other replica
        """Return True once no other replica sends by the state before *states* (identities by migration).

        Their keys in flight that move are then pinned, and known here. False if other states are in force here by now,
        as when the guards of two replicas act at once. Raises ReplicasUnreachable while that is unknown.
        """
        return True

    async def decide_by(self, *policies: Mapping[str, Policy]) -> None:
        """Publish the policies, by migration, that workers here decide by, and fetch those of other replicas."""

    def policies(self) -> Mapping[str, Sequence[Policy]]:
        """Return, by migration, the policies of other replicas' workers, as last received."""
        return {}

    @property
    def silent(self) -> str:
        """Return which replicas were not heard of when last asked, in words, "" if none."""
        return ""

    def gone_without(self, state: str) -> tuple[str, ...]:  # noqa: ARG002 - there is no other replica
        """Return the replicas that the forced change to *state* (an identity) went on without."""
        return ()

    async def give_up_lost(self, state: str) -> tuple[str, ...]:  # noqa: ARG002 - there is no other replica
        """Stop waiting for replicas that are silent, and return their names; raise ReplicasUnreachable.

        The change to *state* (an identity), and no other, also skips those that are found to be gone later.
        """
        return ()
