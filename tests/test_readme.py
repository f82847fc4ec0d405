"""README and docs/ are held to the code: what stands in them exists, and what exists stands in them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import errors
from proxy.cli.main import COMMANDS
from proxy.settings.load import load
from proxy.settings.schema import settings_tables
from proxy.simulator.scenario import NAMED
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
ROOMS = sorted(path.parent for path in (ROOT / "proxy").glob("*/__init__.py"))
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
PAGES += [room / "README.md" for room in ROOMS]
PAGES += sorted((ROOT / "deploy").rglob("README.md"))
HTML_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _text(name: str) -> str:
    return (ROOT / name).read_text()


def _section(page: str, title: str) -> str:
    """Return what stands on *page* between the heading *title* and the next of its level or above."""
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##? |^\1 |\Z)", _text(page), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title!r}"
    return found[2]


def _marked(page: str, mark: str) -> str:
    """Return the block of *page* behind the comment *mark*."""
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", _text(page), re.DOTALL)
    assert found, f"{page} has no block {mark!r}"
    return found[1]


def _without_code(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of *page* as GitHub makes them of headings, and those written in HTML."""
    titles = re.findall(r"^#+ (.*)$", _without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles} | set(
        HTML_ANCHOR.findall(page.read_text())
    )


def _codes() -> set[str]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ProxyError)]
    return {kind.code for kind in kinds}


def _metrics() -> set[str]:
    status = Status(environment="mock", instance="i", version="0", config_digest="d", uptime=1.0, workers_wanted=1)
    _, text = Metrics(status=lambda: status).render("")
    shown = set(re.findall(r"^# TYPE (\S+)", text.decode(), re.MULTILINE))
    return {name for name in shown if not name.endswith("_created") and not name.startswith("process_")}


def _test_names() -> set[str]:
    files = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return set(re.findall(r"def (test_\w+)\(", files))


def test_the_readme_is_short() -> None:
    """Who comes for the first time reads it to the end."""
    assert len(README.read_text().splitlines()) <= 200


def test_the_settings_tables_are_the_generated_ones() -> None:
    """Every key with its default stands on its page, section by section, and no other."""
    page = _text("docs/settings.md")
    tables = settings_tables()
    for name, table in tables.items():
        assert table in page, f"docs/settings.md: the table of [{name}] must be\n{table}"
    anchors = HTML_ANCHOR.findall("".join(tables.values()))
    assert set(HTML_ANCHOR.findall(page)) - set(anchors) <= {re.sub(r"\W.*", "", name) for name in tables}


def test_the_examples_of_settings_are_one_configuration(tmp_path: Path) -> None:
    """Put together they have no fault; the README's has its placeholder only, and is short."""
    examples = re.findall(r"```toml\n(.*?)```", _text("docs/settings.md"), re.DOTALL)
    for text, faults in (("".join(examples), set()), (configuration(), {"a placeholder was left in"})):
        (tmp_path / "payproxy.toml").write_text(text)
        loaded = load(None, environ={}, cwd=tmp_path, secrets_directory=tmp_path)
        assert {finding.what for finding in loaded.findings} == faults
    assert len([line for line in configuration().splitlines() if line]) <= 20


def configuration() -> str:
    """Return the README's configuration."""
    return _marked("README.md", "configuration")


def test_the_life_of_a_request_is_quoted_as_it_is() -> None:
    """The page quotes `forward` to the letter."""
    source = _text("proxy/forwarding/forward.py")
    (forward,) = [node for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)]

    assert (ast.get_source_segment(source, forward) or source) in _text("docs/architecture.md")


def test_every_command_is_named_and_no_other() -> None:
    """The README's commands are those of the command line."""
    rows = re.findall(r"^\| `([a-z][^`]*)`", _section("README.md", "Commands"), re.MULTILINE)
    named = {words.split()[0] for words in rows}

    assert named == set(COMMANDS)


def test_every_error_code_has_its_section_and_no_other() -> None:
    """Each code has a row in the table and a section with meaning, cause and next step, to which `type` points."""
    page = _text("docs/errors.md")
    rows = re.findall(r"^\| \[`([a-z_]+)`\]\(#([a-z_]+)\)", page, re.MULTILINE)
    sections = re.findall(r"^### ([a-z_]+)$", page, re.MULTILINE)

    assert sorted(rows) == sorted((code, code) for code in _codes())
    assert sorted(sections) == sorted(_codes())
    for code in sections:
        parts = re.findall(r"^- \*\*(.*?)\.\*\*", _section("docs/errors.md", code), re.MULTILINE)
        assert parts == ["Meaning", "Cause", "Next step"], code


def test_every_member_of_the_status_is_named_and_no_other() -> None:
    """Console and scripts read /api/status: the page has what it serves, and what AdminApp adds to it."""
    rows = re.findall(r"^\| (`[^|]*`) \|", _section("docs/operations.md", "Status"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    served = Status(environment="", instance="", version="", config_digest="", uptime=0.0, workers_wanted=1).as_dict()

    assert named == {*served, "ready", "checks", "troubles"}


def test_every_trigger_is_named_and_no_other() -> None:
    """The page's faults as commands are those of `payproxy trigger`."""
    rows = re.findall(r"^\| `([a-z]+)` \|", _section("docs/simulator.md", "Faults as commands"), re.MULTILINE)

    assert sorted(rows) == sorted(NAMED)


def test_every_metric_is_named_and_no_other() -> None:
    """The page's metrics are those that /metrics shows."""
    named = set(re.findall(r"^\| `((?:http|payproxy)_[a-z_]+)`", _text("docs/metrics.md"), re.MULTILINE))

    assert named == _metrics()


@each_page
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    """Also in alerts and queries."""
    named = re.findall(r"\b((?:http_(?:server|client)|payproxy)_[a-z_]+)", page.read_text())
    known = _metrics() | {"payproxy_writer", "payproxy_reader"}  # roles of PostgreSQL

    assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} <= known


def test_every_alert_has_its_runbook() -> None:
    """Whoever is paged finds a section of the alert's name."""
    alerts = re.findall(r"^\| \[(\w+)\]\(#", _section("docs/operations.md", "Alerts"), re.MULTILINE)
    runbook = re.findall(r"^### (\w+)$", _section("docs/operations.md", "Runbook"), re.MULTILINE)

    assert alerts
    assert sorted(runbook) == sorted(set(alerts))


def test_every_promise_names_a_test_that_exists() -> None:
    """Each promise of the product is held by at least one test that can be found by its name."""
    rows = re.findall(r"^\| \d+\. .*$", _section("README.md", "Promises"), re.MULTILINE)
    assert len(rows) == 11
    for row in rows:
        assert re.findall(r"`test_\w+`", row) or "not yet" in row, row


def test_every_threat_names_a_test() -> None:
    """What is said to hold against a threat is held by a test; each section also says what does not hold."""
    threats = _section("docs/security.md", "Threats and what holds against them")
    rows = re.findall(r"^\| .* \|$", threats, re.MULTILINE)
    assert len(rows) > 60
    for row in rows:
        assert "`test_" in row or row.startswith(("| threat |", "|---")), row
    whose = threats.split("\n### ")[1:]
    assert len(whose) >= 11
    for part in whose:
        assert part.count("**Not promised:**") == 1, part.splitlines()[0]


@each_page
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """It can be found by its name."""
    assert set(re.findall(r"`(test_\w+)`", page.read_text())) <= _test_names()


def test_the_code_map_names_every_room() -> None:
    """Each folder of the package stands in the code map, with its own page."""
    code_map = _section("docs/architecture.md", "Code map")
    named = re.findall(r"^\| \[`([a-z0-9_]+)/`\]\(\.\./proxy/([a-z0-9_]+)/README\.md\)", code_map, re.MULTILINE)

    assert sorted(named) == [(room.name, room.name) for room in ROOMS]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_room_has_a_short_page(room: Path) -> None:
    """What it is for, where it runs, what it may import, which rules tests hold."""
    text = (room / "README.md").read_text()

    assert text.startswith(f"# {room.name}: ")
    assert "\n- **Process" in text
    assert "\n- **May import**" in text
    assert "\n## Rules that tests hold\n" in text
    assert 15 <= len(text.splitlines()) <= 50


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a page that is there, and to a heading or an anchor on it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{target} is not there"
        assert not anchor or anchor in _anchors(other), f"{target}: no such heading"


def _paths(page: Path) -> Iterator[tuple[str, Path]]:
    """Yield what *page* names between backticks as files of this repository, with the folder where it must be."""
    for line in _without_code(page).splitlines():
        room = re.match(r"\| \[`([a-z_]+)/`\]", line)
        for name in re.findall(r"`([\w./-]+)`", line):
            if name.endswith(".py"):
                yield (
                    name,
                    ROOT / "proxy" / room[1] if room else page.parent if page.name == "README.md" else ROOT / "proxy",
                )
            elif re.match(r"(proxy|tests|config|deploy|docs|bench|\.ci)/.", name):
                yield name, ROOT


@each_page
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """Whoever renames a file finds the pages that name it."""
    for name, folder in _paths(page):
        assert any((place / name).exists() for place in (folder, ROOT)), f"{name} is not there"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page is forgotten."""
    seen: set[Path] = set()
    todo = [README]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", _without_code(page))
        todo += [(page.parent / link).resolve() for link in links if not link.startswith("https://")]

    assert set(PAGES) <= seen
