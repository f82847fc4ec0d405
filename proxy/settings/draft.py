"""Builds what is valid of a configuration, so that one invalid key does not hide other faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.settings.fields import NAME_PATTERN
from proxy.settings.findings import Complaint, Key, nearest
from proxy.settings.model import RouteSection, Settings
from proxy.settings.shape import Kind, field_at, homes_of, kind_of, names_in
from proxy.settings.sources import copied

# A search for a similar name takes 3 ms.
# Each round takes out at least one value; no hand-written file has this many faults that hide each other.
_MOST_SUGGESTIONS = 200
_MAX_ROUNDS = 100

# pydantic's mark for an invalid name of an entry, not its value.
_NAME_MARK = "[key]"

_WRONG_TYPE = {
    "string_type": ("is not a string", "write it in quotes"),
    "bool_type": ("is neither true nor false", "write true or false, without quotes"),
    "int_type": ("is not an integer", "write digits, without quotes"),
    "float_type": ("is not a number", "write digits, without quotes"),
    "finite_number": ("is not a finite number", "write digits"),
    "tuple_type": ("is not a list", 'write it like ["a", "b"]'),
    "dict_type": ("is not a table", "write it as [section], or like {name = value}"),
    "model_type": ("is not a table", "write it as [section], or like {name = value}"),
    "model_attributes_type": ("is not a table", "write it as [section], or like {name = value}"),
}
_OUT_OF_BOUNDS = {
    "greater_than": ("is too small", "write more than", "gt"),
    "greater_than_equal": ("is too small", "write at least", "ge"),
    "less_than": ("is too large", "write less than", "lt"),
    "less_than_equal": ("is too large", "write at most", "le"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Settings without the invalid keys: *routes* by position in the file, *broken* the keys left out.

    *route_names* includes invalid rules: a reference to one of them is no fault.
    """

    settings: Settings
    routes: Mapping[int, RouteSection]
    route_names: frozenset[str]
    broken: frozenset[Key]

    def names(self, section: str) -> frozenset[str]:
        """Return the names of the tables in *section*, including invalid ones: a reference to one is no fault."""
        return frozenset(getattr(self.settings, section)) | {
            str(key[1]) for key in self.broken if key[0] == section and len(key) == 2
        }


def draft_of(values: Mapping[str, Any]) -> tuple[Draft, list[Complaint]]:
    """Return the valid part of the merged *values*, and the complaints; no complaint quotes a value."""
    return _Drafting(values).run()


class _Drafting:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = copied(values)
        self._broken: set[Key] = set()
        routes = self._values.get("routes")
        self._numbers = list(range(len(routes))) if isinstance(routes, list) else []
        self._route_names = frozenset(
            name
            for route in (routes if isinstance(routes, list) else ())
            if isinstance(route, dict) and isinstance(name := route.get("name"), str)
        )

    def run(self) -> tuple[Draft, list[Complaint]]:
        unknown = [name for name in self._values if name not in Settings.model_fields]
        complaints = [self._unknown_section(name, suggest=at < _MOST_SUGGESTIONS) for at, name in enumerate(unknown)]
        for name in unknown:  # also because BaseSettings has own parameters, like _secrets_dir
            del self._values[name]
        for turn in range(_MAX_ROUNDS):
            try:
                settings = Settings(**self._values)
            except ValidationError as error:
                faults = error.errors(include_input=False, include_url=False)
                if turn == 0:  # later rounds only report consequences of earlier removals
                    complaints += [_complaint(fault) for fault in faults[:_MOST_SUGGESTIONS]]
                self._take_out(faults)
            else:
                break
        else:
            settings = Settings(environment="mock")
        routes = dict(zip(self._numbers, settings.routes, strict=True)) if settings.routes else {}
        draft = Draft(settings=settings, routes=routes, route_names=self._route_names, broken=frozenset(self._broken))
        return draft, complaints

    def _unknown_section(self, name: str, *, suggest: bool) -> Complaint:
        fix = _suggestion(name, ()) if suggest else "correct it or remove it"
        return Complaint(key=(name,), what="unknown key", fix=fix)

    def _take_out(self, faults: list[ErrorDetails]) -> None:
        doomed: set[int] = set()
        for fault in faults:
            key = _what_to_take_out(fault)
            if key == ("environment",):
                # Unknown environment: continue as mock, which has the fewest rules, to avoid follow-up findings.
                self._values["environment"] = "mock"
                self._broken.add(key)
            elif key[0] == "routes" and len(key) == 2:
                doomed.add(int(key[1]))
            else:
                self._delete(key)
                self._broken.add(key)
        if doomed:
            self._values["routes"] = [one for at, one in enumerate(self._values["routes"]) if at not in doomed]
            self._numbers = [number for at, number in enumerate(self._numbers) if at not in doomed]

    def _delete(self, key: Key) -> None:
        table: Any = self._values
        for part in key[:-1]:
            if isinstance(table, dict) and part not in table:
                return
            table = table[part]
        if isinstance(table, dict):
            table.pop(key[-1], None)


def _what_to_take_out(fault: ErrorDetails) -> Key:
    key = fault["loc"]
    if _NAME_MARK in key:
        return key[: key.index(_NAME_MARK)]
    first = 2 if key[0] == "routes" else 1
    for at, part in enumerate(key[first:], first):
        if isinstance(part, int):  # one invalid element makes its list invalid
            return key[:at]
    if fault["type"] == "missing" and len(key) > 1:
        return key[:-1]
    return key


def _complaint(fault: ErrorDetails) -> Complaint:
    key, kind, context = fault["loc"], fault["type"], fault.get("ctx", {})
    if _NAME_MARK in key:
        key = key[: key.index(_NAME_MARK)]
    field = field_at(tuple(part for part in key if not isinstance(part, int) or key[0] == "routes"))
    description = (field.description if field is not None else None) or "see docs/settings.md"
    what, fix = "is not acceptable", description
    if kind == "missing":
        what, fix = "is missing", f"add it: {description}"
    elif kind == "extra_forbidden":
        what, fix = "unknown key", _suggestion(str(key[-1]), key[:-1])
    elif kind == "literal_error":
        what, fix = "is not one of the allowed values", f"write {context['expected']}".replace("'", '"')
    elif kind == "unacceptable":
        what, fix = str(context["what"]), str(context["fix"])
    elif kind == "string_pattern_mismatch":
        what = "the name does not begin with a-z, or has other characters than a-z, 0-9, _ and -"
        fix = f"choose a name that matches {NAME_PATTERN}"
    elif kind in _OUT_OF_BOUNDS:
        what, words, bound = _OUT_OF_BOUNDS[kind]
        fix = f"{words} {context[bound]}"
    elif kind in _WRONG_TYPE:
        what, fix = _wrong_type(key, kind)
    return Complaint(key=key, what=what, fix=fix)


def _wrong_type(key: Key, kind: str) -> tuple[str, str]:
    if kind == "tuple_type" and key == ("routes",):
        return (
            "is one table, and rules are a list of them",
            "write [[routes]], in two brackets, above each rule, and what it is called as its `name`",
        )
    if kind == "tuple_type" and key[-1] == "remint_on":
        return "is not a list", 'write it like [{status = 403, body = "GCA-001"}]'
    return _WRONG_TYPE[kind]


def _suggestion(name: str, section: Key) -> str:
    """Return a hint for the unknown key *name* in *section*."""
    near = nearest(name, names_in(section))
    homes = [home or "the top of the file" for home in homes_of(name)]
    meant = [f'did you mean "{near}"?'] if near is not None else []
    meant += [f"{name} belongs into {' or '.join(homes)}"] if homes else []
    if meant:
        return " ".join(meant)
    field = field_at(section) if section else None
    known = ", ".join(names_in(section)) if field is None or kind_of(field) is Kind.SECTION else ""
    return f"remove it; known are {known}" if known else "remove it"
