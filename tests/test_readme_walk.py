"""The shell lines of the pages, run as they stand there: from an empty folder to a first call, and off ADFS."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import ports_of_the_pages

DOCS = Path(__file__).parent.parent / "docs"
SECONDS = 90


def block(page: str, name: str) -> str:
    """Return the lines of the block of *page* that is marked with *name*."""
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found
    return found[1].strip()


def run(lines: str, folder: Path) -> str:
    """Run *lines* in *folder*, each of which must succeed, and return what they print."""
    with ports_of_the_pages():
        done = subprocess.run(
            ["bash", "-c", f"set -e -o pipefail\ntrap 'jobs -p | xargs -r kill; wait' EXIT\n{lines}"],  # noqa: S607  any bash
            cwd=folder,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "BEGIN" not in done.stdout
    return done.stdout


def test_the_walk_ends_in_a_call_by_a_signed_jwt(tmp_path: Path) -> None:
    """At most seven commands lead from an empty folder to the bank's answer."""
    commands = block("getting-started.md", "walk")
    assert len(commands.splitlines()) <= 7

    printed = run(commands, tmp_path)

    assert '"' in printed.splitlines()[-1], printed


@pytest.mark.thorough
def test_the_afternoon_ends_without_adfs(tmp_path: Path) -> None:
    """Everybody has moved, one came back for a while, and the lines to change are named."""
    printed = run(block("migration.md", "migrate"), tmp_path)

    assert '{"message":"Hello, world"}' in printed
    at = [
        printed.index(said)
        for said in (
            "weight 0 (legacy), version 0, never changed",
            "to modern: settlement",
            "to modern: treasury",
            "side        modern",
            "to modern: payroll",
            "payments: legacy is used: by treasury",
            "to legacy: payroll",
            "side        legacy",
            "version 6",
            'write credential = "modern"',
            "delete [migrations.payments]",
        )
    ]
    assert at == sorted(at)
