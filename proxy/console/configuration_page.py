"""The page of the configuration: values in force, where each comes from, and the findings of `payproxy check`."""

import json
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Any

from proxy.console.in_force import ConfigurationView
from proxy.console.page import Cell, PageContent, Table, Tone
from proxy.settings.findings import Finding, Key, Severity
from proxy.settings.tree import leaves

PATH = "/console/configuration"
# With thousands of callers there are tens of thousands of values: the JSON has all.
MOST_ROWS = 1000
_CHANGED = "changed"


def configuration_page(view: ConfigurationView, query: Mapping[str, str]) -> PageContent:
    """Return the page; with show=changed in *query* only the values that differ from their defaults."""
    only_changed = query.get("show") == _CHANGED
    values = [one for one in leaves(dict(view.settings)) if not only_changed or _shown(view, *one)]
    links = (
        (PATH, "All values", not only_changed),
        (f"{PATH}?show={_CHANGED}", "Those that differ from the default", only_changed),
    )
    return PageContent(
        path=PATH,
        title="Configuration",
        twin=f"{PATH}.json?show={_CHANGED}" if only_changed else f"{PATH}.json",
        data=_data(view, values, only_changed=only_changed),
        lead=_summary(view.findings),
        tone=_tone(view.findings),
        points=_waiting(view.waiting),
        blocks=(_findings(view.findings), _values(view, values)),
        template="configuration.html",
        more={"links": links},
    )


def differs(view: ConfigurationView, key: Key, value: Any) -> bool:
    """Return whether *value*, in JSON types, was given by a source and is not the default of *key*."""
    source = view.sources[_dotted(key)]
    if source == "default" or source.startswith("preset "):
        return False
    return key not in view.defaults or view.defaults[key] != value


def _shown(view: ConfigurationView, key: Key, value: Any) -> bool:
    return _dotted(key) in view.waiting or differs(view, key, value)


def _data(view: ConfigurationView, values: Iterable[tuple[Key, Any]], *, only_changed: bool) -> dict[str, Any]:
    # The first three as `payproxy config show --sources --json` has them.
    data = {
        "file": view.file,
        "settings": view.settings,
        "sources": view.sources,
        "not_in_force": view.waiting,
        "findings": [finding.as_dict() for finding in view.findings],
    }
    return data | ({"changed": {_dotted(key): value for key, value in values}} if only_changed else {})


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))


def _summary(findings: tuple[Finding, ...]) -> str:
    errors = sum(one.severity is Severity.ERROR for one in findings)
    if not findings:
        return "The configuration file has no fault."
    return f"{errors} errors and {len(findings) - errors} warnings in the configuration file."


def _tone(findings: tuple[Finding, ...]) -> Tone:
    if not findings:
        return Tone.GOOD
    return Tone.BAD if any(one.severity is Severity.ERROR for one in findings) else Tone.WARN


def _waiting(waiting: Mapping[str, Any]) -> tuple[Cell, ...]:
    if not waiting:
        return ()
    words = f"{len(waiting)} values of the file are not in force. A reload (SIGHUP) takes them, or a restart"
    return (Cell(f"{words} those that are read at start only.", Tone.WARN),)


def _findings(findings: tuple[Finding, ...]) -> Table:
    return Table(
        title="Findings of the file as it is now",
        columns=("severity", "where", "setting", "what", "what to do"),
        rows=tuple(
            (
                Cell(one.severity.value, Tone.BAD if one.severity is Severity.ERROR else Tone.WARN),
                Cell(f"{one.file}:{one.line}" if one.line else one.file),
                Cell(one.key),
                Cell(one.what),
                Cell(one.fix),
            )
            for one in findings
        ),
        empty="payproxy check finds nothing. --online asks the token endpoints too.",
        note="As payproxy check prints them, but no hardware token (PKCS#11) is opened for this page.",
    )


def _values(view: ConfigurationView, values: list[tuple[Key, Any]]) -> Table:
    known = {_dotted(key) for key, _ in leaves(dict(view.settings))}
    added = [name for name in view.waiting if name not in known]
    rows = chain(
        (_row(view, name, Cell("not set")) for name in added),
        (_row(view, _dotted(key), Cell(_text(value))) for key, value in values),
    )
    left_out = len(added) + len(values) - MOST_ROWS
    more = f"{left_out} more values are not shown: the JSON of this page has all. "
    return Table(
        title="Values in force",
        columns=("setting", "value", "source", "in the file now"),
        rows=tuple(islice(rows, MOST_ROWS)),
        empty="No value differs from its default.",
        note=(more if left_out > 0 else "")
        + "Rules are numbered from 0. Secrets are ***; payproxy config show --sources prints the same.",
    )


def _row(view: ConfigurationView, name: str, value: Cell) -> tuple[Cell, ...]:
    there = Cell("the same")
    if name in view.waiting:
        now = view.waiting[name]
        there = Cell("not set" if now is None else _text(now), Tone.WARN)
    return (Cell(name), value, Cell(view.sources[name]), there)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False)
