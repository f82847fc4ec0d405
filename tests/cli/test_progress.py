import io
import os
import pty
import re
import subprocess
import threading
from pathlib import Path

import pytest

from proxy.cli.progress import Progress, progress
from tests.cli.support import PAYPROXY, environment
from tests.records.kept import kept, record


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def isatty(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Keep *text*, and wake whoever waits for it."""
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def drawn(self, words: str) -> None:
        """Return once *words* were written."""
        with self._written:
            assert self._written.wait_for(lambda: words in self.getvalue(), timeout=60)


def test_a_line_is_drawn_again_and_removed() -> None:
    """It counts, and nothing of it stays on the screen."""
    terminal = Terminal()

    with progress("verifying", stream=terminal, after=0.0) as shown:
        assert list(shown.counted(range(1234))) == list(range(1234))
        terminal.drawn("\r\x1b[Kverifying: 1,234 records, ")

    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_dumb_terminal_gets_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be drawn again, nor removed."""
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()

    with progress("verifying", stream=terminal, after=0.0):
        pass

    assert terminal.getvalue() == ""


def test_what_is_soon_done_draws_nothing() -> None:
    """Nor does anything where stderr is no terminal."""
    terminal, pipe = Terminal(), io.StringIO()

    with progress("verifying", stream=terminal):
        pass
    with progress("verifying", stream=pipe, after=0.0):
        pass

    assert (terminal.getvalue(), pipe.getvalue()) == ("", "")


def test_an_error_passes() -> None:
    """And the line is removed before it is printed."""
    terminal = Terminal()

    def copy() -> None:
        with progress("copying", stream=terminal, after=0.0):
            terminal.drawn("copying: ")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        copy()

    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_line_says_how_long() -> None:
    """Also where nothing is counted."""
    assert Progress("asking").line(3.4) == "asking: 3 s"


def test_verify_shows_its_progress(tmp_path: Path) -> None:
    """On the terminal of stderr, while it waits for more of the log; stdout has the data only."""
    pipe = tmp_path / "records.jsonl"
    os.mkfifo(pipe)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [PAYPROXY, "logs", "verify", pipe, "--json"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.close(os.open(pipe, os.O_WRONLY))  # it is opened twice: for its first bytes, and to be read
        writer = os.open(pipe, os.O_WRONLY)
        os.write(writer, b"\n".join(kept([record(), record()])) + b"\n")
        seen = b""
        while not re.search(rb"verifying: (2 records, )?[2-9] s", seen):
            seen += os.read(ours, 4096)
        os.close(writer)
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)

    assert out.startswith(b"{")
    assert b"verifying" not in out
