"""The migrations' tables: active, about to take over, and removed but maybe still used by a worker."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from proxy.keeper.new_pins import in_new_tables
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.rule_reach import taken_away
from proxy.keeper.weights import Weights
from proxy.migration.former import FormerSetting
from proxy.migration.removal import Table, modern_stays, objection, pins_in_words
from proxy.migration.side import Policy
from proxy.migration.side_settings import SideSettings
from proxy.migration.state import FULL, Rule
from proxy.routing.compile import policy_of
from proxy.settings.worker_values import MigrationValues, Snapshot

# Later than any real time, in epoch seconds.
_EVER = 1e11

Policies = dict[str, Policy]


class MigrationTables:
    """The migrations of the configuration, checked against their *weights* and *pins*."""

    def __init__(self, *, weights: Weights, pins: RetryPins) -> None:
        self.values: dict[str, MigrationValues] = {}
        self.coming: dict[str, MigrationValues] = {}
        self.leaving: dict[str, MigrationValues] = {}
        self._weights = weights
        self._pins = pins
        self._by_route: dict[str, str] = {}
        self.reappeared: set[str] = set()  # those that begin anew and have not done so yet
        self._followed = False  # before that, at a start, nothing is in flight

    def follow(self, values: Iterable[MigrationValues]) -> None:
        """Make these tables the active ones; `reappeared` are those that were finished before and taken away."""
        before = self.values.keys() | self._weights.document.routes.keys()
        self.values = {one.name: one for one in values}
        self._followed = True
        self._by_route = {route: one.name for one in self.values.values() for route in one.routes}
        self.coming = {}
        self.leaving = {name: one for name, one in self.leaving.items() if name not in self.values}
        self.reappeared &= self.values.keys()
        self.reappeared |= {name for name in self.values.keys() - before if self._weights.state(name).finished}

    def expect(self, values: Iterable[MigrationValues]) -> list[str]:
        """Make these tables the coming ones; return the names of those that change."""
        self.coming = {one.name: one for one in values}
        self.leaving = {name: one for name, one in self.values.items() if name not in self.coming}
        return [name for name, one in self.coming.items() if name in self.values and one != self.values[name]]

    def migration_of(self, route: str) -> str:
        """Return the name of the migration that contains *route*, "" if none does."""
        return self._by_route.get(route, "")

    def is_another(self, values: MigrationValues) -> bool:
        """Return whether the stored state of this name belongs to a table with other sides."""
        sides = self._weights.state(values.name).sides
        return bool(sides) and sides != sides_of(values)

    def objection(self, snapshot: Snapshot, *, in_flight: bool = False) -> str:
        """Return why the configuration *snapshot* must not take over, or be served at start; "" if it may.

        *in_flight*: requests in flight count as well as retry pins.
        """
        new = {one.name: _table(one) for one in snapshot.migrations}
        credentials = {route.name: route.credential for route in snapshot.routes}
        found = [
            objection(
                name,
                self._weights.state(name),
                before=table,
                after=new.get(name),
                credentials=credentials,
                pins=self._pins.open_pins(name) or (self._pins.in_flight(name) if in_flight else {}),
                forced=name in self._weights.document.forced,
            )
            for name, table in sorted(self._before(snapshot, new).items())
        ]
        found.append(in_new_tables(snapshot.migrations, known=self.values) if self._followed else "")
        return " | ".join(filter(None, found)) or self._other_rules(snapshot, new)

    def _other_rules(self, snapshot: Snapshot, new: Mapping[str, Table]) -> str:
        """Return which requests of a migration that has moved callers would match a rule outside it."""
        document = self._weights.document
        after = [Rule(route.name, route.path, route.methods) for route in snapshot.routes]
        for name, routes in document.routes.items():
            state, pins = self._weights.state(name), self._pins.open_pins(name)
            if name not in new or not (state.version or pins) or name in document.forced:
                continue
            if state.finished and not pins:
                continue
            taken = taken_away(document.rules, after, left=routes, kept=new[name].routes)
            if taken:
                open_pins = f"; there are {pins_in_words(pins)}" if pins else ""
                return (
                    f"migrations.{name} moves payments between two sides, and {taken}, which is not one of its rules"
                    f"{open_pins}. Put that rule into the table, or run `payproxy migration finish {name} --reason "
                    "...` first (--force with open retry pins)"
                )
        return ""

    def settings(self, others: Mapping[str, Iterable[Policy]]) -> dict[str, SideSettings]:
        """Return what workers need to know of all migrations; *others* are policies of other replicas."""
        tables = self.values | self.coming
        states = self._weights.for_workers(tables | self.leaving)
        for name, policy in policies_of(tables).items():
            states[name] = states[name]._replace(policies=(policy, *others.get(name, ())))
        for name, one in self.leaving.items():
            # Without its table, all requests go to one side, without exception.
            state, stays = states[name], FULL if modern_stays(self._weights.state(name)) else 0
            exceptions = [FormerSetting(0, caller, _EVER, settled=False) for caller in state.guard_pinned]
            if state.weight != stays:
                exceptions.append(FormerSetting(state.weight, "", _EVER, settled=False))
            policy = replace(policy_of(one), pinned={})
            states[name] = SideSettings(stays, state.version, (), (*state.former, *exceptions), (policy,))
        return states

    def _before(self, snapshot: Snapshot, new: Mapping[str, Table]) -> dict[str, Table]:
        """Return the tables that were last in force: in this run or before it."""
        document = self._weights.document
        before = {
            name: Table(routes=routes, sides=document.sides.get(name, "")) for name, routes in document.routes.items()
        }
        if not document.routes:  # written by an earlier payproxy: its unfinished migrations had tables
            all_routes = tuple(route.name for route in snapshot.routes)
            before = {
                name: Table(routes=new[name].routes if name in new else all_routes, sides=state.sides)
                for name, state in document.states.items()
                if state.version and not state.finished
            }
        return before | {name: _table(one) for name, one in self.values.items()}

    def __repr__(self) -> str:
        return f"<MigrationTables {', '.join(self.values) or 'none'}>"


def policies_of(values: Mapping[str, MigrationValues]) -> Policies:
    """Return, by migration, how the tables *values* choose sides."""
    return {name: policy_of(one) for name, one in values.items()}


def sides_of(values: MigrationValues) -> str:
    """Return the names of a table's two credentials as one text."""
    return f"{values.legacy.credential} to {values.modern.credential}"


def _table(values: MigrationValues) -> Table:
    return Table(routes=values.routes, sides=sides_of(values), pins=bool(values.pinned_modern))
