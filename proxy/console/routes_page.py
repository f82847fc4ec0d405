"""The page of the rules: the compiled table, and which rule a request would get."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from proxy.console.in_force import ConfigurationInForce
from proxy.console.page import Cell, PageContent, Table, Tone
from proxy.console.rule_tester import (
    QuestionUnusable,
    TesterForm,
    answer_blocks,
    question_of,
    tester_form,
    without_secrets,
)
from proxy.routing.explanation import url_of
from proxy.routing.table import Route, RouteSide
from proxy.settings.model import RouteSection
from proxy.settings.values import masked
from proxy.telemetry.status import Status

PATH = "/console/routes"
# Every key of [[routes]] that is in no other column of the table.
_LIMITS = ("strip_prefix", "replay_body_bytes", "remint_on", "inquiry", "signature")
_DEFAULTS = masked(RouteSection(name="x", path="/", upstream="x", credential="x"))


def routes_page(in_force: ConfigurationInForce, status: Status, query: Mapping[str, str]) -> PageContent:
    """Return the page; *query* may ask which rule a request gets."""
    snapshot = in_force.snapshot()
    form, problem = without_secrets(tester_form(query, snapshot))
    answer: dict[str, Any] | None = None
    if form.asked and not problem:
        try:
            answer = in_force.explain(question_of(form, snapshot))
        except QuestionUnusable as error:
            problem = str(error)
    weights = {one.name: one.weight for one in status.migrations}
    # By name: a reload may come between the two.
    settings = {one["name"]: one for one in in_force.settings()["routes"]}
    rules = [_rule(route, settings.get(route.name, _DEFAULTS), weights) for route in in_force.table().routes]
    return _page(rules, form, answer, problem)


def _page(rules: list[dict[str, Any]], form: TesterForm, answer: dict[str, Any] | None, problem: str) -> PageContent:
    filled = form.filled if form.asked else {}
    return PageContent(
        path=PATH,
        title="Routes",
        twin=f"{PATH}.json?{urlencode(filled)}" if filled else f"{PATH}.json",
        data={"routes": rules, "explained": answer} | ({"problem": problem} if problem else {}),
        lead=problem,
        tone=Tone.BAD,
        status=400 if problem else 200,
        blocks=(_table(rules),),
        template="routes.html",
        more={"form": form, "answer": answer_blocks(answer) if answer is not None else ()},
    )


def _rule(route: Route, settings: Mapping[str, Any], weights: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": route.name,
        "path": route.path,
        "methods": sorted(route.methods),
        "callers": sorted(route.callers),
        **_side(route.own),
        "migration": None,
        "limits": {name: settings[name] for name in _LIMITS if settings[name] != _DEFAULTS[name]},
    }
    if (migration := route.migration) is not None:
        name = migration.policy.name
        sides = {"legacy": _side(migration.legacy), "modern": _side(migration.modern)}
        found["migration"] = {"name": name, "weight": weights.get(name, 0), **sides}
    return found


def _side(side: RouteSide) -> dict[str, str]:
    key = side.token_key
    return {
        "upstream": side.upstream,
        "url": url_of(side.origin, side.prefix),
        "credential": key.credential,
        "audience": key.audience,
        "scope": key.scope,
    }


def _table(rules: list[dict[str, Any]]) -> Table:
    return Table(
        title="Rules, in the order in which they are tried",
        columns=("order", "rule", "path", "methods", "callers", "token", "upstream", "side", "not as by default"),
        rows=tuple(_row(number, rule) for number, rule in enumerate(rules, 1)),
        empty="There is no rule: every request gets 404. Add [[routes]] to the configuration.",
        note="The first rule whose path and method fit takes a request; who may call is checked after that.",
    )


def _row(number: int, rule: Mapping[str, Any]) -> tuple[Cell, ...]:
    migration = rule["migration"]
    sides = {"": rule} if migration is None else {name: migration[name] for name in ("legacy", "modern")}
    weight = f"{migration['name']}: {migration['weight']} % on modern" if migration else "not migrated"
    return (
        Cell(str(number), number=True),
        Cell(rule["name"]),
        Cell(rule["path"]),
        Cell(" ".join(rule["methods"]) or "all"),
        Cell(", ".join(rule["callers"]) or "everyone admitted"),
        Cell("; ".join(_named(name, _token(side)) for name, side in sides.items())),
        Cell("; ".join(dict.fromkeys(_named("", f"{side['upstream']}, {side['url']}") for side in sides.values()))),
        Cell(weight, href="/console/migrations" if migration else ""),
        Cell(", ".join(_limits(rule["limits"])) or "nothing"),
    )


def _named(name: str, text: str) -> str:
    return f"{name}: {text}" if name else text


def _token(side: Mapping[str, str]) -> str:
    return ", ".join(filter(None, (side["credential"], side["audience"], side["scope"])))


def _limits(limits: Mapping[str, Any]) -> Iterator[str]:
    for name, value in limits.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key} {one}" for key, one in value.items() if one)
        elif isinstance(value, list):
            yield f"{name} {'; '.join(' '.join(map(str, one.values())).strip() for one in value)}"
        else:
            yield f"{name} {value}"
