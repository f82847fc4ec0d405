import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from proxy.entropy import SystemEntropy
from proxy.records.checkpoint_key import checkpoint_key
from tests.cli.logs import DATA
from tests.cli.migration_log import changed, migrated, sent
from tests.cli.support import run

HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m"


class Page(HTMLParser):
    """The page as a browser reads it: cells by table, texts by id, and every element and address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: dict[str, str] = {}
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self._table = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element, its row or its id."""
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        identity = dict(attrs).get("id") or ""
        if tag == "table":
            self._table = identity
            self.tables[identity] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in {"td", "th"}:
            self.tables[self._table][-1].append("")
        if identity and tag != "table":
            self.texts[identity] = ""
        if tag != "meta":
            self._open.append(identity if tag != "table" else "")

    def handle_endtag(self, tag: str) -> None:
        """Leave the element."""
        self._open.pop()
        if tag == "table":
            self._table = ""

    def handle_data(self, data: str) -> None:
        """Add *data* to the cell and to all elements with an id around it."""
        if self._table and self.tables[self._table] and self.tables[self._table][-1]:
            self.tables[self._table][-1][-1] += data.strip("\n")
        for identity in filter(None, self._open):
            self.texts[identity] += data


def made(folder: Path, *records: bytes) -> tuple[str, Page, dict[str, Any]]:
    """Return the page of a log with *records*, as text and parsed, and the report as JSON."""
    migrated(folder, *records)
    checkpoint_key(folder / DATA, entropy=SystemEntropy())
    done = run("migration", "report", "payments", "--html", cwd=folder)
    assert done.returncode == 0, done.stderr
    values = json.loads(run("migration", "report", "payments", "--json", cwd=folder).stdout)
    return done.stdout, Page(done.stdout), values


def test_the_page_says_what_json_says(tmp_path: Path) -> None:
    """Verdict, both sides, every caller, every change, who was not seen; when, of what, and the span of the log."""
    _, page, values = made(
        tmp_path,
        *sent("erp", "legacy", 8, days=50),
        *sent("erp", "modern", 9, days=1),
        *sent("erp", "modern", 1, days=1, status=503),
        *sent("crm", "legacy", 3, days=2),
        changed(10, before=0, reason="begin"),
    )

    assert page.texts["verdict"] == values["verdict"]
    callers = page.tables["callers"][1:]
    assert [(row[0], int(row[1]), int(row[3])) for row in callers] == [
        (one["caller"], one["legacy_requests"], one["modern_requests"]) for one in values["callers"]
    ]
    assert [row[4] == "never" for row in callers] == [not one["modern_last"] for one in values["callers"]]
    sides = {row[0]: row[1:] for row in page.tables["sides"][1:]}
    for side in ("legacy", "modern"):
        numbers = [int(sides[side][place]) for place in (0, 1, 2, 4)]
        assert numbers == [values[side][name] for name in ("requests", "exchanges", "failed", "client_errors")]
        assert sides[side][3] == f"{values[side]['failure_ratio']:.2%}"
    assert [row[1:] for row in page.tables["changes"][1:]] == [
        [one[name] for name in ("what", "old_weight", "weight", "who", "proof", "reason")] for one in values["changes"]
    ]
    assert page.texts["not-seen"].endswith(": " + ", ".join(values["not_seen"]))
    facts = dict(page.tables["facts"])
    assert list(facts) == ["Made", "Environment", "Instance", "Chain of the log", "Span of the log"]
    assert facts["Environment"] == "client-testing"
    assert facts["Span of the log"].startswith(values["log_begins"][:10])
    assert facts["Span of the log"].endswith(facts["Made"])


def test_nothing_in_it_runs_or_is_loaded(tmp_path: Path) -> None:
    """Names of callers and reasons are text, whatever they hold."""
    text, page, values = made(tmp_path, *sent(HOSTILE, "legacy", 1, days=2), changed(10, before=0, reason=HOSTILE))

    shown = HOSTILE.replace("\x1b", "\ufffd")
    assert page.tables["callers"][1][0] == shown
    assert page.tables["changes"][1][-1] == shown
    assert shown in page.texts["verdict"]
    assert values["callers"][0]["caller"] == HOSTILE
    assert page.elements == {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "strong", "code", "pre"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert page.attributes == {"lang", "charset", "http-equiv", "content", "id", "scope", "class"}
    assert "default-src 'none'" in text
    assert "\x1b" not in text


def test_the_signature_holds_until_a_byte_is_changed(tmp_path: Path) -> None:
    """`payproxy why --verify` reads the page, too."""
    text, page, values = made(tmp_path, *sent("erp", "legacy", 8, days=2))
    (tmp_path / "page.html").write_text(text)
    changed_text = text.replace('<td class="n">8</td>', '<td class="n">0</td>')
    assert changed_text != text
    (tmp_path / "changed.html").write_text(changed_text)

    good = run("why", "--verify", "page.html", cwd=tmp_path)
    bad = run("why", "--verify", "changed.html", cwd=tmp_path)

    assert (good.returncode, "signed by this data directory's key" in good.stdout) == (0, True)
    assert values["verdict"] in good.stdout
    assert page.texts["statement"].startswith("payproxy statement 1\nsubject: migration report payments\n")
    assert bad.returncode == 1
    assert "is not the one that was signed" in bad.stderr


def test_a_log_without_records_has_a_page(tmp_path: Path) -> None:
    """Its tables say so."""
    _, page, _ = made(tmp_path)

    assert page.tables["callers"][1:] == [["none"]]
    assert dict(page.tables["facts"])["Span of the log"] == "the log has no record"


@pytest.mark.parametrize("options", [("--html", "--json")])
def test_one_format_at_a_time(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A usage error."""
    migrated(tmp_path)

    assert run("migration", "report", "payments", *options, cwd=tmp_path).returncode == 2
