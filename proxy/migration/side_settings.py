"""What workers know of a migration: the settings that decide the side of a request; plain values for link and Redis."""

from typing import Any, NamedTuple

from proxy.migration.former import FormerSetting
from proxy.migration.side import Policy, Side


class SideSettings(NamedTuple):
    """The weight of *version*, the callers held on legacy, and the *former* settings of the last 24 h.

    *policies* are those by which any worker of any replica decides, or is about to.
    """

    weight: int
    version: int
    guard_pinned: tuple[str, ...] = ()
    former: tuple[FormerSetting, ...] = ()
    policies: tuple[Policy, ...] = ()


def policy_row(policy: Policy) -> dict[str, Any]:
    """Return *policy* as a JSON object."""
    return {
        "name": policy.name,
        "sticky": policy.sticky,
        "methods": sorted(policy.methods),
        "pinned": {caller: side.value for caller, side in policy.pinned.items()},
        "fallback": policy.fallback,
        "sides": policy.sides,
    }


def policy_from(value: Any) -> Policy:
    """Parse an object made by `policy_row`; raise ValueError, TypeError, LookupError or AttributeError."""
    return Policy(
        name=str(value["name"]),
        sticky=str(value["sticky"]),
        methods=frozenset(map(str, value["methods"])),
        pinned={str(caller): Side(side) for caller, side in value["pinned"].items()},
        fallback=value["fallback"] is True,
        sides=str(value["sides"]),
    )
