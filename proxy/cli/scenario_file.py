"""Read the scenario of `simulate --scenario`: TOML with a table a step; errors say line and fix."""

from pathlib import Path
from typing import Any

from proxy.cli.finding_text import finding_text
from proxy.cli.output import ExitCode, Failure, note
from proxy.private_file import open_regular
from proxy.settings.findings import Complaint, Key, line_of
from proxy.settings.toml_text import MAX_FILE_BYTES, TomlUnusable, key_lines, parse_toml
from proxy.simulator.scenario import Step, StepInvalid, step_of

_EXAMPLE = 'write [[steps]], and below it at = 10 and fault = "slow"'


def read_scenario(file: Path) -> list[Step]:
    """Return the steps in *file*; raises Failure after its findings were printed to stderr, all at once."""
    try:
        with open_regular(file) as stream:
            text = stream.read(MAX_FILE_BYTES).decode("utf-8-sig", errors="replace")
        values = parse_toml(text)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}", code=ExitCode.CONFIGURATION) from None
    except TomlUnusable as error:
        raise _failure(file, [(error.line, Complaint(key=(), what=str(error), fix="correct the line"))]) from None
    lines = key_lines(text)
    steps, found = _steps(values)
    if found:
        raise _failure(file, [(line_of(complaint.key, lines), complaint) for complaint in found])
    return steps


def _steps(values: dict[str, Any]) -> tuple[list[Step], list[Complaint]]:
    tables = values.get("steps")
    found = [
        Complaint(key=(name,), what="a scenario has steps and nothing else", fix=f"remove {name}")
        for name in values
        if name != "steps"
    ]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        return [], [*found, Complaint(key=("steps",), what="there are no steps", fix=_EXAMPLE)]
    steps = []
    for number, table in enumerate(tables):
        key: Key = ("steps", number)
        try:
            steps.append(step_of(table))
        except StepInvalid as invalid:
            member = (invalid.member,) if invalid.member else ()
            found.append(Complaint(key=(*key, *member), what=str(invalid), fix=invalid.fix))
    return steps, found


def _failure(file: Path, found: list[tuple[int, Complaint]]) -> Failure:
    for line, complaint in found:
        note(finding_text(complaint.at(str(file), line), err=True))
    errors = "1 error" if len(found) == 1 else f"{len(found)} errors"
    return Failure(f"the scenario has {errors}", code=ExitCode.CONFIGURATION)
