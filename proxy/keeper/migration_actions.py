"""The admin socket's actions for `payproxy migration`."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.keeper.admin import Action, ActionRefused, Perform
from proxy.keeper.migrations import Migrations
from proxy.keeper.recorded_changes import MigrationRefused
from proxy.records.audit_records import Operation
from proxy.telemetry.status import MigrationStatus

SET = "/api/migrations/set"
ROLLBACK = "/api/migrations/rollback"
FINISH = "/api/migrations/finish"

Make = Callable[[dict[str, Any], Operation], Awaitable[MigrationStatus]]


def migration_actions(migrations: Migrations) -> dict[str, Action]:
    """Return the actions by path; each records itself, with the weight and version before and after."""

    async def set_(values: dict[str, Any], by: Operation) -> MigrationStatus:
        release = values.get("release", [])
        if not isinstance(release, list) or not all(isinstance(one, str) for one in release):
            raise _unfit("release is a list of names.")
        return await migrations.set(
            _name(values),
            _number(values, "weight"),
            who=by.who,
            proof=by.proof,
            reason=by.reason,
            version=_number(values, "version") if "version" in values else None,
            release=frozenset(release),
            force=values.get("force") is True,
        )

    async def rollback(values: dict[str, Any], by: Operation) -> MigrationStatus:
        return await migrations.rollback(
            _name(values),
            who=by.who,
            proof=by.proof,
            reason=by.reason,
            to=_number(values, "to") if "to" in values else None,
            version=_number(values, "version") if "version" in values else None,
            force=values.get("force") is True,
        )

    async def finish(values: dict[str, Any], by: Operation) -> MigrationStatus:
        force = values.get("force") is True
        return await migrations.finish(_name(values), who=by.who, proof=by.proof, reason=by.reason, force=force)

    return {
        SET: Action(
            what='set a weight: {"name": NAME, "weight": 0 to 100, "reason": WHY}; also version, release, force',
            perform=_performing(set_),
        ),
        ROLLBACK: Action(
            what='go back: {"name": NAME, "reason": WHY}; also to, version, force', perform=_performing(rollback)
        ),
        FINISH: Action(
            what='declare a migration over: {"name": NAME, "reason": WHY}; also force', perform=_performing(finish)
        ),
    }


def _performing(make: Make) -> Perform:
    async def perform(values: dict[str, Any], by: Operation) -> dict[str, Any]:
        try:
            return dataclasses.asdict(await make(values, by))
        except MigrationRefused as refused:
            raise ActionRefused(409, "bad_request", str(refused)) from None

    return perform


def _name(values: dict[str, Any]) -> str:
    name = values.get("name")
    if not isinstance(name, str):
        raise _unfit("name is the name of a migration.")
    return name


def _number(values: dict[str, Any], key: str) -> int:
    value = values.get(key)
    # type() and not isinstance(): True is an int too.
    if type(value) is not int:
        raise _unfit(f"{key} is a whole number.")
    return value


def _unfit(detail: str) -> ActionRefused:
    return ActionRefused(400, "bad_request", detail)
