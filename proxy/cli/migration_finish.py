"""`payproxy migration finish`: what to delete and change in the file once all callers are on their final side."""

from dataclasses import asdict, dataclass
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.migration_status import (
    FINISH,
    ask_instance,
    in_words,
    reason_option,
    running_migration,
    warn_of_unsettled,
)
from proxy.cli.names import names_of
from proxy.cli.options import config_option
from proxy.cli.output import emit, json_option
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change: *place* is the value's source, FILE:LINE if in the file; *text* is what to write, "" to delete it."""

    place: str
    what: str
    text: str


@click.command()
@click.argument("name", shell_complete=names_of("migrations"))
@reason_option
@click.option(
    "--force", is_flag=True, help="Even with open retry pins, or at a weight of 1 to 99: then the greater side stays."
)
@config_option
@json_option
def finish(name: str, config_path: Path | None, reason: str, *, force: bool, as_json: bool) -> None:
    """Declare the migration NAME over and print what to change in the file; nothing is changed there by itself.

    At weight 100 its routes get the modern side's values, at 0 they keep the legacy ones.
    """
    found = load_configuration(config_path)
    before = running_migration(found.settings, name)
    after = ask_instance(found.settings, FINISH, {"name": name, "reason": reason, "force": force})
    side = "modern" if after["weight"] >= 50 else "legacy"
    edits = edits_for(found.settings, found.loaded, name, side=side)
    lines = [f"{edit.place}  {edit.what}" for edit in edits] or ["its table is no longer in the file"]
    words = [f"{name}: {in_words(after)}", f"So that its routes stay on {side}:", *lines]
    emit(
        after | {"side": side, "edits": [asdict(edit) for edit in edits]},
        as_json=as_json,
        human="\n".join([*words, "Then `payproxy check`, and SIGHUP."]),
    )
    warn_of_unsettled(after, before=before)


def edits_for(settings: Settings, loaded: Loaded, name: str, *, side: str) -> list[Edit]:
    """Return the edits that leave each route of the migration *name* with the values of *side*."""
    section = settings.migrations.get(name)
    if section is None:
        return []  # the table was removed before: reading the file reports what its routes must have
    wanted = section.modern if side == "modern" else section.legacy
    edits = []
    for number, route in enumerate(settings.routes):
        if route.name not in section.routes:
            continue
        # The flavor's default needs no line.
        usual = settings.credentials[wanted.credential].default_scope
        same_scope = (route.scope or usual) == (wanted.scope or usual)
        values = {
            "credential": wanted.credential,
            "audience": wanted.audience,
            "scope": route.scope if same_scope else wanted.scope,
            "upstream": wanted.upstream or route.upstream,
        }
        for key, value in values.items():
            now = getattr(route, key)
            if now != value:
                place = loaded.positions.where(("routes", number, key))
                text = f'{key} = "{value}"' if value else ""
                todo = f"write {text}" if value else f"delete {key}"
                current = f'it is "{now}"' if now else "it has none"
                edits.append(Edit(place=place, what=f"[[routes]] {route.name}: {todo} ({current})", text=text))
    edits.append(Edit(place=loaded.positions.where(("migrations", name)), what=f"delete [migrations.{name}]", text=""))
    return edits
