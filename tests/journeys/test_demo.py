"""`payproxy demo` on a machine that has other things to do."""

import asyncio
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli.instance import DATA_DIRECTORY, answers
from tests.cli.support import environment
from tests.journeys.canaries import Search
from tests.support.ports import ports_of_the_pages


def titles_in_the_readme() -> list[str]:
    """Return the steps whose output the README shows, and the line at the end."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    shown = readme.partition("<!-- demo output -->\n```text\n")[2].partition("```")[0]
    titles = [line for line in shown.splitlines() if line and not line.startswith(" ")]
    assert len(titles) > 3
    return titles


def inside(folder: str) -> list[Path]:
    """Return what is in *folder*."""
    return list(Path(folder).iterdir())


@pytest.fixture(autouse=True)
def one_demo_at_a_time() -> Iterator[None]:
    """Two that start at once would both take the ports that they prefer."""
    with ports_of_the_pages():
        yield


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
    assert Search(()).found(stdout + stderr) == []
    assert len(re.findall(r"within\s+[0-9]+(\.[0-9])?\s+m?s\b", text)) == 2
    for title in titles_in_the_readme():
        assert re.search(rf"^{re.escape(title)}$", text, re.MULTILINE), title
    prose = [line for line in text.splitlines() if line.startswith("   ")]
    assert all(len(line) <= 72 for line in prose if "`" not in line)


async def test_told_to_stop_it_takes_the_proxy_with_it() -> None:
    """By a supervisor or `kill`: no proxy stays behind that sends to a simulator which is gone, and no key."""
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has 107 bytes at most
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "demo", env=environment(TMPDIR=short),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        while not (await process.stdout.readline()).startswith(b"1. "):
            assert not process.stdout.at_eof()
        (folder,) = inside(short)
        assert answers(folder / DATA_DIRECTORY)

        process.terminate()
        _, stderr = await process.communicate()

        assert (process.returncode, stderr.decode()) == (0, "stopped\n")
        assert inside(short) == []
