"""The README is held to the code: what stands in it exists, and what exists stands in it."""

import ast
import re
from pathlib import Path

from proxy import errors
from proxy.cli.main import COMMANDS
from proxy.settings.reference import settings_table
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def _section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def _codes() -> set[str]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ProxyError)]
    return {kind.code for kind in kinds}


def test_the_settings_table_is_the_generated_one() -> None:
    """Every key with its default stands in the README, and no other."""
    assert settings_table().strip() in _section("Settings")


def test_the_life_of_a_request_is_quoted_as_it_is() -> None:
    """The README quotes `forward` to the letter."""
    source = (ROOT / "proxy/forwarding/forward.py").read_text()
    (forward,) = [node for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)]

    assert (ast.get_source_segment(source, forward) or source) in README


def test_every_command_is_named_and_no_other() -> None:
    """The README's commands are those of the command line."""
    named = {words.split()[0] for words in re.findall(r"^\| `([a-z][^`]*)`", _section("Commands"), re.MULTILINE)}

    assert named == set(COMMANDS)


def test_every_error_code_is_explained_and_no_other() -> None:
    """The README's table of errors has each code once."""
    named = re.findall(r"^\| `([a-z_]+)`", _section("Errors by code"), re.MULTILINE)

    assert sorted(named) == sorted(_codes())


def test_every_metric_is_named_and_no_other() -> None:
    """The README's metrics are those that /metrics shows."""
    status = Status(environment="mock", instance="i", version="0", config_digest="d", uptime=1.0, workers_wanted=1)
    _, text = Metrics(status=lambda: status).render("")
    shown = set(re.findall(r"^# TYPE (\S+)", text.decode(), re.MULTILINE))
    shown = {name for name in shown if not name.endswith("_created") and not name.startswith("process_")}
    named = set(re.findall(r"^\| `((?:http|payproxy)_[a-z_]+)`", _section("Metrics"), re.MULTILINE))

    assert named == shown


def test_every_promise_names_a_test_that_exists() -> None:
    """Each promise of the product is held by at least one test that can be found by its name."""
    rows = re.findall(r"^\| \d+\. .*$", _section("Promises"), re.MULTILINE)
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) == 11
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named or "not yet" in row, row
        for name in named:
            assert f"def {name}(" in tests, name


def test_the_code_map_names_every_room() -> None:
    """Each folder of the package stands in the code map."""
    rooms = {path.name for path in (ROOT / "proxy").iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = set(re.findall(r"^\| `([a-z_]+)/`", _section("Code map"), re.MULTILINE))

    assert named == rooms
