"""`payproxy explain`: what happens to a request, by the same plan that the data path executes."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from proxy.cli.configuration import valid_configuration
from proxy.cli.names import names_of
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, note
from proxy.clock import SystemClock
from proxy.migration.known_sides import known_sides
from proxy.migration.pin import RetryPin
from proxy.migration.side_cache import SideCache
from proxy.migration.state import StateUnusable
from proxy.migration.stores.file import FileStore
from proxy.migration.stores.pins import NAME as PINS
from proxy.migration.stores.pins import read_pins
from proxy.routing.compile import route_table
from proxy.routing.explanation import Question
from proxy.routing.explanation import explain as explained
from proxy.settings.values import body_keys, snapshot_of

_MOST_RULES = 20


@click.command()
@click.argument("method")
@click.argument("path")
@click.option(
    "--caller",
    "caller_name",
    default="",
    shell_complete=names_of("callers"),
    help="The caller's table name; without it, callers with a key are told by the --header of it.",
)
@click.option("--header", "-H", "headers", multiple=True, metavar="NAME=VALUE", help="A header of the request.")
@file_option
@json_option
def explain(
    method: str, path: str, caller_name: str, headers: tuple[str, ...], config_path: Path | None, *, as_json: bool
) -> None:
    """Print the rule, credential, audience, upstream URL and side that METHOD PATH would get, and why; sends nothing.

    PATH is as in the request line, with its query; http://HOST/... as a client with HTTP_PROXY sends it. If the rule is
    migrated, weight and pins are those of the instance in this data directory; give the header that decides the side,
    or the Idempotency-Key of a retry, with --header.
    """
    settings = valid_configuration(config_path).settings
    if caller_name and caller_name not in settings.callers:
        raise Failure(f"there is no [callers.{caller_name}]", code=ExitCode.USAGE)
    question = Question(method=method, target=path, caller=caller_name, headers=tuple(map(_header, headers)))
    sides = _known_sides(Path(settings.data_directory), list(settings.migrations)) if settings.migrations else None
    snapshot = snapshot_of(settings, instance="explain")
    answer = explained(
        question,
        snapshot,
        route_table(snapshot),
        sides=sides or SideCache(),
        body_keys=body_keys(settings),
        now=SystemClock().now(),
    )
    emit(answer, as_json=as_json, human=in_words(answer))
    if "code" in answer:
        raise click.exceptions.Exit(ExitCode.FAILED)


def in_words(answer: Mapping[str, Any]) -> str:
    """Return *answer* as text: what the request would get, and why other rules do not take it."""
    if "facade" in answer:
        return "the facade's token endpoint answers it itself, before any rule, and nothing is sent"
    if "code" in answer:
        text = f"{answer['status']} {answer['code']}: {answer['detail']}\nNothing would be sent."
    else:
        text = facts([(name, value) for name, value in answer.items() if name != "rules" and value])
    others = [(one["route"], one["why"]) for one in answer["rules"] if not one["takes"]]
    more = f"\n  and {len(others) - _MOST_RULES} more (--json)" if len(others) > _MOST_RULES else ""
    return text + (f"\n\nrules that do not take it\n{facts(others[:_MOST_RULES], indent='  ')}{more}" if others else "")


def _header(text: str) -> tuple[str, str]:
    """Return NAME=VALUE, or NAME: VALUE as in `payproxy request`, as a header."""
    parts = re.fullmatch("([^=:]+)[=:](.*)", text, re.DOTALL)
    if parts is None:
        raise click.BadParameter("write it as NAME=VALUE", param_hint="--header")
    name, value = (part.strip() for part in parts.groups())
    return name, value


def _known_sides(directory: Path, names: Iterable[str]) -> SideCache:
    """Return the state of the migrations *names* from the files in *directory*; reports unreadable files on stderr."""
    document, pins, readable = None, dict[str, RetryPin](), True
    try:
        document = FileStore(directory).load()
    except StateUnusable as error:
        note(f"weights are taken as 0: {error}")
    try:
        for kept, _ in read_pins(directory / PINS):
            pins |= kept
    except StateUnusable as error:
        note(f"earlier tries are not known: {error}")
        readable = False
    return known_sides(document, names, pins=pins, pins_readable=readable, now=SystemClock().now())
