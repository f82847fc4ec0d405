import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import private_file
from proxy.cli import instance
from proxy.cli.instance import STATUS, NotRunning, ask
from proxy.cli.output import ExitCode
from proxy.cli.status_text import status_text
from proxy.telemetry.status import CertificateStatus, MigrationStatus, SinkStatus, Status
from tests.cli.serving import command
from tests.cli.support import PAYPROXY, environment
from tests.cli.test_health import forbidden, hanging
from tests.keeper.support import Keeper, get
from tests.settings.support import PLAIN
from tests.telemetry.support import caller_status, error_status, no_token, status, token, worker

NOW = 1_800_000_000.0
DAY = 86400.0
SOON = 60.0
FULL = status(
    time=NOW,
    uptime=7260.0,
    tokens=(
        token(),
        no_token(credential="adfs", error_code="token_refused", error="invalid_client", retry_in=12.0),
    ),
    certificates=(
        CertificateStatus(name="tls", use="server", subject="CN=b", expires=NOW + 400 * DAY),
        CertificateStatus(name="login", use="credential", subject="CN=a", expires=NOW + 20 * DAY),
        CertificateStatus(name="old", use="upstream", subject="CN=c", expires=NOW - DAY),
    ),
    callers=(caller_status("erp", requests=12, failed=2, sent_unknown=1, last=NOW - 3), caller_status("", requests=1)),
    errors=(error_status(last=NOW - 65), error_status(code="", status=503, sent_upstream="yes")),
    sinks=(
        SinkStatus(name="stdout", backlog=0, dropped=0, failing=""),
        SinkStatus(name="database", backlog=17, dropped=2, failing="disk I/O error"),
    ),
    migrations=(
        MigrationStatus(
            name="move", weight=25, version=3, who="anna", when=NOW, reason="first share", phase="ramp", last_good=10
        ),
    ),
    shared=True,
    replicas=("host-2",),
)


@asynccontextmanager
async def answering(folder: Path, given: Status = FULL) -> AsyncIterator[Keeper]:
    """Serve *given* on the admin.sock of the configuration in *folder*."""
    (folder / "payproxy.toml").write_text(f"{PLAIN}\n")
    (folder / "secret").write_text("s")
    (folder / "secret").chmod(0o600)
    data = folder / "payproxy-data"
    data.mkdir(mode=0o700, exist_ok=True)
    keeper = Keeper(status=given)
    async with keeper.server(data, listen=None):
        yield keeper


async def shown(folder: Path, given: Status = FULL) -> str:
    """Return what `payproxy status` prints of *given*."""
    async with answering(folder, given):
        result = await command("status", "--config", folder / "payproxy.toml")
    assert result.exit_code == 0, result.output
    return str(result.stdout)


async def test_what_is_left_of_a_certificate_is_rounded_down(tmp_path: Path) -> None:
    """As the log, `check` and the console say it."""
    lefts = {"a": 30 * DAY - 60, "b": 23 * 3600.0 + 1, "c": DAY, "d": 75.0}
    given = replace(
        FULL,
        certificates=tuple(
            CertificateStatus(name=name, use="credential", subject="CN=a", expires=NOW + left)
            for name, left in lefts.items()
        ),
    )
    text = " ".join((await shown(tmp_path, given)).split())

    for words in (
        "a credential 29 days left",
        "b credential 23 hours left",
        "c credential 1 day left",
        "1 minute left",
    ):
        assert words in text


async def test_one_screen_says_how_it_is(tmp_path: Path) -> None:
    """Readiness, tokens, certificates by expiry, callers, errors in words, sinks, migrations and replicas."""
    text = await shown(tmp_path)

    assert "host-1 (production)  payproxy 1.2.3  up 2 h 1 min  1 of 1 workers  0 in flight" in text
    assert "READY, degraded\n  sink/database degraded: disk I/O error; 17 records wait" in text
    assert "  login  jpm:uri:prod:payments  fresh  250 s left  0123456789abcdef" in text
    assert "token_refused: the client is not known" in text
    assert "next try in 12 s. It said: invalid_client" in text
    days = [line.split()[0] for line in text.split("Certificates\n")[1].split("\n\n")[0].splitlines()]
    assert days == ["old", "login", "tls"]
    assert "EXPIRED" in text
    assert "20 days left" in text
    assert "  erp          12        2       0          0              1             3 s ago" in text
    assert "(anonymous)" in text
    words = " ".join(text.split())
    assert "upstream_timeout, 3 times, last 1 min 5 s ago: route payments, caller erp, sent unknown" in words
    assert "Ask the bank whether it has the request" in words
    assert "503 from the bank, 3 times" in text
    assert "database  17 records behind  2 dropped  failing: disk I/O error" in text
    assert "move  weight 25  25 % on modern  by anna" in text
    assert "Replicas\n  host-2" in text


async def test_what_goes_wrong_with_requests_is_told_first(tmp_path: Path) -> None:
    """Below the verdict, though the instance itself is well."""
    text = await shown(tmp_path, status(time=NOW, errors=(error_status(last=NOW - 5),), workers=(worker(late=2),)))

    assert "\nREADY\n  2 requests have no answer of the bank yet" in text
    assert "  upstream_timeout on route payments, 5 s ago: The bank did not answer" in text


async def test_not_ready_says_why(tmp_path: Path) -> None:
    """The first thing to see."""
    text = await shown(tmp_path, status(time=NOW, draining=True))

    assert "\nNOT READY\n  draining failed: the instance is stopping\n" in text


async def test_json_is_what_the_instance_serves(tmp_path: Path) -> None:
    """The same as /api/status, for scripts."""
    async with answering(tmp_path):
        result = await command("status", "--json", "--config", tmp_path / "payproxy.toml")
        served = (await get(tmp_path / "payproxy-data" / "admin.sock", "/api/status")).json

    assert json.loads(result.stdout) == served


async def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Causes come from peers, reasons from operators."""
    text = await shown(tmp_path, status(time=NOW, errors=(error_status(cause="\x1b[2Jx\ny"),)))

    assert "\x1b" not in text
    assert "x y" in text


async def test_a_long_list_is_cut_and_says_so(tmp_path: Path) -> None:
    """One screen."""
    text = await shown(tmp_path, status(time=NOW, callers=tuple(caller_status(f"c{n}") for n in range(15))))

    assert "  c9  " in text
    assert "  c10  " not in text
    assert "and 5 more: --json has all" in text


@pytest.mark.parametrize(
    ("uptime", "words"), [(3599.0, "since the start, 59 min 59 s ago"), (3600.0, "within the last 1 h")]
)
def test_a_young_instance_does_not_speak_of_an_hour(uptime: float, words: str) -> None:
    """Callers and errors are counted from the start on; the log and the history know more."""
    text = status_text(FULL.as_dict() | {"ready": True, "checks": [], "uptime": uptime})

    assert f"Callers {words}\n" in text
    assert f"Errors {words}\n" in text


def test_sentences_are_wrapped() -> None:
    """At the terminal's width."""
    served = FULL.as_dict() | {"ready": True, "checks": []}

    errors = status_text(served, width=60).split("Errors within the last 1 h\n")[1].split("\n\n")[0]

    assert max(map(len, errors.split("\n"))) <= 60


async def test_a_broken_file_is_no_obstacle(tmp_path: Path) -> None:
    """The instance on the socket beside it is asked."""
    async with answering(tmp_path):
        (tmp_path / "payproxy.toml").write_text("environment = [\n")
        result = await command("status", "--config", tmp_path / "payproxy.toml")

    assert result.exit_code == 0
    assert "host-1 (production)" in result.stdout
    assert "going on" in result.stderr


async def test_without_an_instance_it_ends_with_69(tmp_path: Path) -> None:
    """And says where none answers."""
    async with answering(tmp_path):
        pass

    result = await command("status", "--config", tmp_path / "payproxy.toml")

    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "no instance answers" in result.output


def test_another_user_is_told_who_may_ask(tmp_path: Path) -> None:
    """An instance that runs well is not said to be away."""
    with hanging(tmp_path), forbidden(tmp_path / "admin.sock"), pytest.raises(NotRunning) as refused:
        ask(tmp_path, STATUS)

    message = refused.value.message
    assert message.startswith(f"{tmp_path}/admin.sock is only for the user who runs the instance; run the command as")
    assert f"`sudo -u {private_file.user_name(os.geteuid())} payproxy ...`" in message


def test_an_instance_that_hangs_is_said_to_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it takes the connection and does not answer, or has no room for one more."""
    monkeypatch.setattr(instance, "TIMEOUT_SECONDS", 0.1)
    with (
        hanging(tmp_path),
        pytest.raises(NotRunning, match=r"does not answer within 0\.1 s: it hangs; see PayproxyDown"),
    ):
        ask(tmp_path, STATUS)


def test_an_instance_that_takes_no_connection_is_said_to_hang(tmp_path: Path) -> None:
    """As many wait already as the system keeps."""
    with hanging(tmp_path, room=0), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waiting:
        waiting.connect(str(tmp_path / "admin.sock"))
        assert instance.answers(tmp_path)
        with pytest.raises(NotRunning, match="takes no connection: it hangs; see PayproxyDown"):
            ask(tmp_path, STATUS)


class Watch:
    """`payproxy status --watch` as a process; *output* is what it has printed since the words last waited for."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> None:
        self.process = process
        self.output = ""
        self._reader = reader

    async def until(self, words: str) -> str:
        """Return what comes up to and including *words*; a terminal gives its output in any pieces."""
        async with asyncio.timeout(SOON):
            while words not in self.output:
                data = await self._reader.read(65536)
                assert data, self.output
                self.output += data.decode()
        before, _, self.output = self.output.partition(words)
        return before + words

    async def rest(self) -> str:
        """Read what the process has printed before it ended."""
        return self.output + (await self._reader.read()).decode()


@asynccontextmanager
async def watching(folder: Path, *options: str, terminal: bool, **env: str) -> AsyncIterator[Watch]:
    """Run `payproxy status --watch`, on a terminal of 24 lines or a pipe."""
    far, near = pty.openpty() if terminal else os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader),
        os.fdopen(far, "rb", buffering=0),
    )
    process = await asyncio.create_subprocess_exec(
        PAYPROXY, "status", "--watch", "--config", folder / "payproxy.toml", *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=near, stderr=asyncio.subprocess.PIPE,
        env=environment(**{"LINES": "24", "COLUMNS": "100", "NO_COLOR": "1"} | env),
    )  # fmt: skip
    os.close(near)
    try:
        yield Watch(process, reader)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        transport.close()


@pytest.mark.parametrize("terminal", [True, False])
async def test_watch_goes_on_over_a_restart_until_interrupted(tmp_path: Path, terminal: bool) -> None:  # noqa: FBT001
    """It waits for an instance that is away, shows the new one, and Ctrl-C ends it with 130."""
    async with contextlib.AsyncExitStack() as first:
        await first.enter_async_context(answering(tmp_path))
        async with watching(tmp_path, terminal=terminal) as watch:
            await watch.until("READY, degraded")
            await first.aclose()
            await watch.until("no instance answers")
            async with answering(tmp_path, status(time=NOW, draining=True)):
                await watch.until("the instance is stopping")
            watch.process.send_signal(signal.SIGINT)
            assert await watch.process.wait() == ExitCode.INTERRUPTED
            assert watch.process.stderr is not None
            assert (await watch.process.stderr.read()).strip() == b"interrupted"


async def test_watch_ends_at_once_while_the_instance_hangs(tmp_path: Path) -> None:
    """Ctrl-C does not wait for the answer: nothing more is printed."""
    (tmp_path / "payproxy.toml").write_text(f'data_directory = "{tmp_path}"\n{PLAIN}')
    asked = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(hang, tmp_path / "admin.sock")
    async with server, watching(tmp_path, terminal=False) as watch:
        await asyncio.wait_for(asked.wait(), SOON)
        watch.process.send_signal(signal.SIGINT)
        assert await watch.process.wait() == ExitCode.INTERRUPTED
        assert await watch.rest() == ""


async def test_a_terminal_is_drawn_anew(tmp_path: Path) -> None:
    """From its upper left corner, and no more lines than it has."""
    given = status(time=NOW, callers=tuple(caller_status(f"c{n}") for n in range(15)), errors=FULL.errors)
    async with answering(tmp_path, given), watching(tmp_path, terminal=True) as watch:
        await watch.until("\x1b[?7h\r\n")
        drawn = (await watch.until("\x1b[?7h")).replace("\r\n", "\n")

    assert drawn.startswith("\x1b[H\x1b[J\x1b[?7l")
    assert drawn.endswith(" more lines\x1b[?7h")
    assert drawn.count("\n") < 23


async def test_a_dumb_terminal_gets_no_escape_sequence(tmp_path: Path) -> None:
    """One status after the other, as in a pipe, and without colours."""
    async with answering(tmp_path), watching(tmp_path, terminal=True, TERM="dumb", NO_COLOR="") as watch:
        text = await watch.until("host-2\r\n\r\nhost-1 (production)")

    assert "\x1b" not in text


async def test_a_pipe_gets_one_status_after_the_other(tmp_path: Path) -> None:
    """Plain text with a blank line between; as JSON a line each."""
    async with answering(tmp_path):
        async with watching(tmp_path, terminal=False) as watch:
            text = await watch.until("host-2\n\nhost-1 (production)")
        async with watching(tmp_path, "--json", terminal=False) as watch:
            first = await watch.until("\n{")

    assert "\x1b" not in text
    assert json.loads(first.splitlines()[0])["instance"] == "host-1"
