"""Output of commands: data on stdout as text or JSON, messages on stderr, and the exit codes."""

import errno
import io
import json
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, TextIO

import click

from proxy.records.json_line import terminal_safe
from proxy.text import printable as text_printable

# Below this width lines are not wrapped.
_NARROWEST = 30
_NO_BREAK = "\N{NO-BREAK SPACE}"


class ExitCode(IntEnum):
    """Exit codes for scripts; 69 and 78 are EX_UNAVAILABLE and EX_CONFIG of sysexits.h, 130 is 128 + SIGINT."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    CONFIGURATION = 78
    INTERRUPTED = 130


class Failure(click.ClickException):
    """The command failed; the message goes to stderr, the process exits with *code*."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the message without control characters, which a file or a peer may have put in."""
        note(f"{paint('error', 'red', err=True)}: {printable(self.message)}", file=file)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the data as JSON.")


def emit(value: object, *, as_json: bool, human: str) -> None:
    """Print the command's data on stdout: *value* as JSON, or the text *human*."""
    click.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False)) if as_json else human)


def emit_record(record: bytes) -> None:
    """Print *record*, a line of JSON, byte for byte: its hash is over these bytes.

    On a terminal, control characters are escaped; records since 2026-11-28 are written that way.
    """
    click.echo(terminal_safe(record) if sys.stdout.isatty() else record)


def note(message: str, *, file: Any = None) -> None:
    """Print a message on stderr."""
    click.echo(message, err=True, file=file)


class _Stdout(io.FileIO):
    """The descriptor of stdout, which remembers the first write that *failed*, whatever the error becomes."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        """Write *data*; raises OSError."""
        try:
            return super().write(data)
        except OSError as error:
            self.failed = self.failed or error
            raise


def watch_stdout() -> None:
    """Let `output_written` know of each write to this process's stdout that fails."""
    if (shown := sys.stdout) is not None:
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stdout(shown.fileno(), "w", closefd=False)),
            encoding=shown.encoding,
            errors=shown.errors,
            line_buffering=shown.isatty(),
        )


def output_written() -> bool:
    """Return whether all output could be written; if not, say why on stderr, once, and drop it.

    Without that Python would try to write at its end what is in the buffer, and print a traceback. A reader of a pipe
    that has left needs no words.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    try:
        sys.stdout.flush()
        failed = raw.failed if isinstance(raw, _Stdout) else None
    except OSError as error:
        failed = error
    if failed is None:
        return True
    sys.stdout = io.StringIO()
    if failed.errno != errno.EPIPE:
        note(f"{paint('error', 'red', err=True)}: stdout can't be written: {failed.strerror}")
    return False


def facts(rows: Sequence[tuple[str, str]], *, indent: str = "") -> str:
    """Return names and values in two columns, one pair a line."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {printable(value)}".rstrip() for name, value in rows)


def paint(text: str, colour: str, *, err: bool = False) -> str:
    """Return *text* in *colour* if that stream is a terminal and NO_COLOR is not set (no-color.org)."""
    if os.environ.get("NO_COLOR") or not takes_escapes(sys.stderr if err else sys.stdout):
        return text
    return click.style(text, fg=colour)


def takes_escapes(stream: TextIO | None) -> bool:
    """Return whether *stream*, None if it is closed, is a terminal that understands escape sequences (ECMA-48).

    TERM=dumb says that it does not: Emacs' shell, some CI logs and serial lines.
    """
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def escaped(text: str) -> str:
    """Return JSON *text* with DEL and C1 escaped, the control characters that JSON leaves as they are."""
    return terminal_safe(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")


def terminal_width(*, err: bool = False) -> int:
    """Return the columns of that stream's terminal, or $COLUMNS; 0 if lines must not be wrapped."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    stream = sys.stderr if err else sys.stdout
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal, or no file at all
        return 0


def wrapped(text: str, *, width: int, indent: str = "", first: str = "") -> str:
    """Return *text* in lines of at most *width* columns, except for longer words; 0: unchanged.

    *first* precedes the first line, *indent* the others.
    """
    if width < _NARROWEST:
        return f"{first}{text}"
    # Text in backticks is for copying: it stays on one line.
    kept = re.sub("`[^`]*`", lambda found: found[0].replace(" ", _NO_BREAK), text)
    wrap = textwrap.TextWrapper(width, first, indent, break_long_words=False, break_on_hyphens=False)
    return wrap.fill(kept).replace(_NO_BREAK, " ")


def printable(text: str) -> str:
    """Return *text* with control characters replaced: names in certificates and files must not control the terminal."""
    return text_printable(text, other="\N{REPLACEMENT CHARACTER}", keep="\n\t")
