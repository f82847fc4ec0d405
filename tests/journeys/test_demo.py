"""`payproxy demo` on a machine that has other things to do."""

import asyncio
import re
import sys
from pathlib import Path

from tests.cli.support import environment


def titles_in_the_readme() -> list[str]:
    """Return the steps whose output the README shows, and the line at the end."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = readme.partition("<!-- demo output -->\n```text\n")[2].partition("```")[0]
    titles = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    assert len(titles) > 3
    return titles


async def test_the_tour_ends_well_and_fits_the_terminal() -> None:
    """Every step is as it should be; how long a change took is said, and no line of prose is cut."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "demo", "--once", env=environment(COLUMNS="72"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stdout, stderr = await process.communicate()
    text = stdout.decode()

    assert process.returncode == 0, text + stderr.decode()
    assert "All 11 steps succeeded." in text
    assert len(re.findall(r"within\s+[0-9]+\.[0-9]\s+s", text)) == 2
    for title in titles_in_the_readme():
        assert re.search(rf"^{re.escape(title)}$", text, re.MULTILINE), title
    prose = [line for line in text.splitlines() if line.startswith("   ")]
    assert all(len(line) <= 72 for line in prose if "`" not in line)
