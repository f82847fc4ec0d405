"""The usual case of `payproxy health` at hardly more CPU than Python's start: a probe runs it every few seconds.

So it imports no click, TOML parser, HTTP client or JSON, no other module of payproxy, and _socket instead of socket,
whose enumerations alone take half as long as Python's start. It answers only what needs none of them: the options of a
probe, a configuration whose data directory is one plain line or not in it, and an instance that answers over
admin.sock. Whatever else there is, `health.py` does from the beginning; tests compare the two.
"""

import _socket as socket
import os
import sys
import time  # noqa: TID251 - proxy.clock takes longer to import than all the rest

# Copies of names in proxy.settings.sources and proxy.cli.instance, as in health.py; a test compares them.
FILE_NAME = "payproxy.toml"
SYSTEM_FILE = "/etc/payproxy/payproxy.toml"
DATA_DIRECTORY = "payproxy-data"
SOCKET_NAME = "admin.sock"
_KEY = b"data_directory"

# A copy of PROBE_SECONDS, for the whole answer; an instance that takes longer hangs and is not asked again.
_TIMEOUT_SECONDS = 2.0
_MAX_FILE_BYTES = 1024 * 1024
_MAX_ANSWER_BYTES = 1024 * 1024


def quick_health(arguments: list[str]) -> int | None:
    """Print the answer of the instance and return the exit code; None if it takes `health.py` to say anything."""
    options = options_of(arguments)
    path = None if options is None else socket_path(options, dict(os.environ))
    if options is None or path is None or sys.stdout is None:
        return None
    page = "readyz" if "--ready" in options else "livez"
    try:
        status, text = _ask(path, page)
    except TimeoutError:
        what = f"does not answer within {_TIMEOUT_SECONDS:g} s: it hangs; see PayproxyDown in docs/operations.md"
        sys.stderr.write(f"error: the instance on {path} {what}\n")
        return 1
    *checks, result, end = text.split("\n") if "\n" in text else ("", "", text)
    passed = status == 200
    if status not in {200, 503} or end or result != f"{page} check {'passed' if passed else 'failed'}":
        return None
    # `[+]name ok` of ?verbose: the mark is for readers of a probe's log.
    return _print(checks) or (0 if passed else 1)


def _print(checks: list[str]) -> int:
    """Print *checks*, one a line, and return 0, or 1 if that fails."""
    try:
        sys.stdout.write("".join(f"{check[3:]}\n" for check in checks))
        sys.stdout.flush()
    except OSError as error:
        sys.stderr.write(f"error: stdout can't be written: {error.strerror}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python tries again at its end
        return 1
    return 0


def options_of(arguments: list[str]) -> dict[str, str] | None:
    """Return the options and their values, None if there is anything but those of a probe, each written in full."""
    options: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--ready":
            options[argument] = ""
        elif argument in {"--config", "--socket"} and (value := next(rest, ""))[:1] not in {"", "-"}:
            options[argument] = value
        else:
            return None
    return options


def socket_path(options: dict[str, str], environ: dict[str, str]) -> str | None:
    """Return the path of admin.sock by the rules of `serve`, None if a TOML parser has to say."""
    if "--socket" in options:
        return options["--socket"]
    file = options.get("--config") or environ.get("PAYPROXY_CONFIG")
    file = file or next(filter(os.path.exists, (FILE_NAME, SYSTEM_FILE)), None)
    directory = _data_directory_in(file) if file else ""
    if directory is None:
        return None
    directory = directory or environ.get("STATE_DIRECTORY", "").partition(":")[0] or DATA_DIRECTORY
    return os.path.join(os.path.dirname(file or ""), directory, SOCKET_NAME)  # noqa: PTH118, PTH120 - pathlib is slow


def _data_directory_in(file: str) -> str | None:
    """Return data_directory of *file*, "" if it is not in there, None if that takes a parser or can't be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            text = os.read(descriptor, _MAX_FILE_BYTES)
        finally:
            os.close(descriptor)
        return data_directory_of(text) if text and len(text) < _MAX_FILE_BYTES else None
    except (OSError, ValueError):
        return None


def data_directory_of(text: bytes) -> str | None:
    r"""Return data_directory of the TOML *text*, "" without one, None if a parser has to say.

    A parser is needed if the key is in more than one line, below a table's header, or written otherwise than as
    `data_directory = "path"`, and if a line may be within a text of several lines or a key has an escape (`\u005f`).
    """
    lines = [line.strip() for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    if b'"""' in text or b"'''" in text or any(line[:1] == b'"' and b"\\" in line for line in lines):
        return None
    naming = [number for number, line in enumerate(lines) if _KEY in line and line[:1] != b"#"]
    if not naming:
        return ""
    key, _, value = lines[naming[0]].partition(b"=")
    if len(naming) > 1 or key.strip() != _KEY or any(line[:1] == b"[" for line in lines[: naming[0]]):
        return None
    return _plain_string(value.strip())


def _plain_string(value: bytes) -> str | None:
    """Return the string that is all of *value*, but for a comment; None if there is anything else."""
    quote = value[:1]
    if quote not in {b'"', b"'"}:
        return None
    inside, closing, rest = value[1:].partition(quote)
    if not closing or b"\\" in inside or rest.strip()[:1] not in {b"", b"#"}:
        return None
    return inside.decode()


def _ask(path: str, page: str) -> tuple[int, str]:
    """Return status and body of *page*, (0, "") if there is no whole answer; raise TimeoutError."""
    answer, deadline = b"", time.monotonic() + _TIMEOUT_SECONDS
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.connect(path)
        connection.sendall(f"GET /{page}?verbose HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        while (piece := connection.recv(65536)) and len(answer) < _MAX_ANSWER_BYTES:
            answer += piece
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
        head, _, body = answer.partition(b"\r\n\r\n")
        version, status, *_ = head.split(b" ", 2)
        return (int(status) if version == b"HTTP/1.1" else 0), body.decode()
    except TimeoutError:
        raise
    except (OSError, ValueError):
        return 0, ""
    finally:
        connection.close()
