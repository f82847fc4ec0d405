"""A migrated route between two banks on other ports and under other paths, and what its keeper heard."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from proxy.link.messages import Outcomes, PinRequest, TokenRefusal
from proxy.migration.former import former_of
from proxy.migration.side_settings import SideSettings
from proxy.settings.worker_values import MigrationValues, SideValues, Snapshot
from proxy.worker.timeouts import CALLER_TIMEOUTS
from tests.forwarding.support import bearer
from tests.upstream.support import OK, Bank, Step, bank, eventually, says
from tests.worker.support import Proxy, _running, token_of
from tests.worker.values import CREDENTIAL, snapshot
from tests.worker.values import route as rule

MIGRATION = "payments"
MODERN_PREFIX = "/modern/v3"
Row = tuple[str, str, str, bool, str, int, bool]


@dataclass(kw_only=True)
class Moving:
    """What runs: a proxy before both banks; the rule `open` is migrated, `plain` is not."""

    it: Proxy
    legacy: Bank
    modern: Bank

    def state(self, weight: int, *, version: int = 1, readable: bool = True, former: Sequence[Any] = ()) -> None:
        """Let the worker hear of *weight*, and of the *former* settings of the last 24 h."""
        states = {MIGRATION: SideSettings(weight, version, former=former_of(former))}
        self.it.gateway.migrations.set_states(states, readable=readable)

    def key(self, side: str) -> str:
        """Return the digest of the token key of *side*."""
        return next(key.digest for key in self.it.gateway.table.origins() if key.audience == side)

    @property
    def sends(self) -> tuple[int, int]:
        """Return how many requests the legacy and the modern bank have seen."""
        return self.legacy.heads, self.modern.heads

    def tokens_are_where_they_belong(self) -> None:
        """Check that each bank has seen tokens of its own audience only."""
        for its_bank, audience in ((self.legacy, "legacy"), (self.modern, "modern")):
            assert all(bearer(one.head).startswith(f"canary-{audience}-") for one in its_bank.requests)

    @property
    def pins(self) -> list[tuple[str, str]]:
        """Return side and upstream of the retry pins that the keeper was asked for."""
        return [(one.pin.side, one.pin.upstream) for one in self.it.keeper.all(PinRequest)]

    async def rows(self, count: int) -> list[Row]:
        """Return what was told of exchanges, without the time, once *count* rows have come."""

        def told() -> list[Row]:
            return [row[:7] for one in self.it.keeper.all(Outcomes) for row in one.rows]

        await eventually(lambda: len(told()) >= count)
        return told()

    def refused(self, side: str) -> list[int]:
        """Return the serials of the tokens of *side* that the keeper was told were refused."""
        return [one.mint for one in self.it.keeper.all(TokenRefusal) if one.key == self.key(side)]


def values(directory: Path, legacy: int, modern: int, *, fallback: bool, **changes: Any) -> Snapshot:
    """Return the values of a configuration that moves the rule `open` from port *legacy* to port *modern*."""
    route = changes.pop("route", {})
    plain = snapshot(
        directory,
        legacy,
        routes=(
            rule("open", credential="adfs", audience="legacy", **route),
            rule("plain", credential="adfs", audience="legacy"),
        ),
        **changes,
    )
    (upstream,) = plain.upstreams
    return replace(
        plain,
        upstreams=(upstream, replace(upstream, name="modern", port=modern, prefix=MODERN_PREFIX)),
        credentials=(CREDENTIAL, replace(CREDENTIAL, name="adfs", client_id="old", audience_parameter="resource")),
        migrations=(
            MigrationValues(
                name=MIGRATION,
                routes=("open",),
                legacy=SideValues(credential="adfs", audience="legacy", scope="", upstream="bank"),
                modern=SideValues(credential="login", audience="modern", scope="", upstream="modern"),
                sticky="caller",
                methods=(),
                pinned_legacy=(),
                pinned_modern=(),
                fallback=fallback,
            ),
        ),
    )


@contextlib.asynccontextmanager
async def moving(
    directory: Path,
    *,
    legacy: Sequence[Step] = (),
    modern: Sequence[Step] = (),
    tokens: Sequence[str] = ("legacy", "modern"),
    weight: int = 100,
    fallback: bool = True,
    nowhere: str = "",
    **changes: Any,
) -> AsyncIterator[Moving]:
    """Run a proxy with *tokens* at hand whose migration has *weight*; nobody listens on the side *nowhere*."""
    async with bank(*(legacy or (says(OK),))) as old, bank(*(modern or (says(OK),))) as new:
        ports = [1 if nowhere == "legacy" else old.port, 1 if nowhere == "modern" else new.port]
        those = values(directory, *ports, fallback=fallback, **changes)
        async with _running(those, old, directory, CALLER_TIMEOUTS) as it:
            moved = Moving(it=it, legacy=old, modern=new)
            moved.state(weight)
            for side in tokens:
                it.keeper.mint(moved.key(side))
            yield moved
            moved.tokens_are_where_they_belong()


def token(side: str, serial: int = 1) -> str:
    """Return the *serial*th token of *side*."""
    return token_of(side, serial)
