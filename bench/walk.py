"""`python -m bench --walk`: how many functions and files of `proxy/` a request passes through in its worker.

It runs the sources as they are, never compiled: what is counted is what an engineer reads. Each figure is the least of
some requests, since in between heartbeats are sent, and records of earlier requests go to the journal in batches.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import CLOCK, Unfit, family, pause, running
from bench.report import Goal, Report
from bench.talk import WrongAnswer, ask, connected, free_port, request, until_open
from proxy.simulator.clients import MOCK_CLIENT_ID, MOCK_CLIENT_SECRET
from proxy.simulator.token_endpoints import MOCK_PATH

_ROOT = Path(__file__).parent.parent
_OTHER_CLIENT, _OTHER_SECRET = "walk-client", "walk-secret"
# -P: the copy in PYTHONPATH, not the sources in the working directory.
_COMMAND = (sys.executable, "-P", "-m", "proxy")
_WARM = 50
_TIMES = 15
_MIGRATIONS = 5  # each is refused once: after a second refusal its guard would move the only caller back
_SETTLES_SECONDS = 0.3  # until the records of earlier requests are handed to the journal's thread
_WAIT_SECONDS = 20.0
_GET = "GET, warm"
_GET_LIMITS = (120, 28, 70)  # calls, files, changes of file

# Loaded by every interpreter that is started with this folder in PYTHONPATH; only workers are counted.
_PROFILER = """
import json, os, signal, sys

if "proxy.worker" in sys.orig_argv:
    HERE = os.path.dirname(__file__) + "/proxy/"
    TOLD = os.path.dirname(__file__) + "/walk.json"
    found = None

    def seen(frame, event, _):
        name = frame.f_code.co_filename
        if not name.startswith(HERE):
            return
        if event == "call":
            found["calls"] += 1
            found["depth_now"] += 1
            found["depth"] = max(found["depth"], found["depth_now"])
            found["changes"] += name != found["last"]
            found["last"] = name
            found["files"].append(name)
        elif event == "return":
            found["depth_now"] -= 1

    def toggle(*_):
        global found
        if found is None:
            found = {"calls": 0, "depth_now": 0, "depth": 0, "changes": 0, "last": "", "files": []}
            sys.setprofile(seen)
            told = {}
        else:
            sys.setprofile(None)
            told = {key: found[key] for key in ("calls", "depth", "changes")} | {"files": len(set(found["files"]))}
            found = None
        with open(TOLD + ".new", "w") as file:
            json.dump(told, file)
        os.rename(TOLD + ".new", TOLD)

    signal.signal(signal.SIGUSR1, toggle)
"""

_CONFIGURATION = """\
environment = "mock"

[server]
listen = "127.0.0.1:{port}"
workers = 1

[admin]
listen = "127.0.0.1:0"

[request_log]
stdout = false
database = ""

[upstreams.bank]
url = "{bank}"

[credentials.old]
flavor = "basic"
client_id = "{client}"
client_secret_file = "old.secret"
token_url = "{bank}{token_path}"

[credentials.new]
flavor = "basic"
client_id = "{other}"
client_secret_file = "new.secret"
token_url = "{bank}{token_path}"

{migrations}
[[routes]]
name = "plain"
path = "/"
upstream = "bank"
credential = "old"
"""
_MIGRATION = """
[[routes]]
name = "{name}"
path = "/payment/v2/payments/{name}"
upstream = "bank"
credential = "old"

[migrations.{name}]
routes = ["{name}"]
legacy = {{ credential = "old" }}
modern = {{ credential = "new" }}
"""


@dataclass(frozen=True, slots=True)
class Walk:
    """Calls of functions of `proxy/`, their files, how often the file changes from call to call, the deepest stack."""

    calls: int
    files: int
    changes: int
    depth: int


def walk() -> list[Report]:
    """Return the one report; raises Unfit if the proxy can't be run, WrongAnswer."""
    with tempfile.TemporaryDirectory(prefix="payproxy-walk-") as folder, _running(Path(folder)) as site:
        walks = dict(site.scenarios())
    head = ("request", "calls", "files", "changes of file", "depth")
    rows = [[name, *map(str, _numbers(found))] for name, found in walks.items()]
    wanted = zip(head[1:], _numbers(walks[_GET]), _GET_LIMITS, strict=False)
    goals = [
        Goal(name=f"walk of a warm GET: {name}", value=value, limit=limit, unit="") for name, value, limit in wanted
    ]
    return [Report.of("Walk of one request through `proxy/` in its worker", head, rows, goals)]


def _numbers(found: Walk) -> tuple[int, int, int, int]:
    return found.calls, found.files, found.changes, found.depth


class _Site:
    """A simulator on the port *bank* and a proxy before it with one *worker*; connections are kept alive."""

    def __init__(self, folder: Path, *, proxy: socket.socket, bank: socket.socket, worker: int) -> None:
        self._folder = folder
        self._proxy = proxy
        self._bank = bank
        self._worker = worker
        self._number = 0

    def scenarios(self) -> Iterator[tuple[str, Walk]]:
        """Yield each kind of request with its walk."""
        for _ in range(_WARM):
            self._get()
            self._pay("plain")
        yield _GET, self._least(self._get)
        yield "POST with a durable intent", self._least(lambda: self._pay("plain"))
        yield "POST, 401 and replay", self._least(self._replayed)
        walks = [self._fallback(name) for name in _migrations()]
        yield "POST on a migrated rule, 401 and fallback", min(walks, key=_numbers)

    def _least(self, send: Callable[[], None]) -> Walk:
        return min((self._walk(send) for _ in range(_TIMES)), key=_numbers)

    def _fallback(self, name: str) -> Walk:
        """Return the walk of a payment on the migration *name* whose modern token is refused."""
        command = _payproxy("migration", "set", name, "100", "--reason", "to be measured", folder=self._folder)
        subprocess.run(command, env=_environment(self._folder), check=True, capture_output=True)
        for _ in range(_WARM):
            self._pay(name)
        _control(self._bank, "fault", {"kind": "refuse", "client": _OTHER_CLIENT, "path": "/payment", "times": 1})
        pause(_SETTLES_SECONDS)
        return self._walk(lambda: self._pay(name))

    def _walk(self, send: Callable[[], None]) -> Walk:
        self._toggle()
        send()
        pause(0.02)  # what follows the answer belongs to the request too
        found = self._toggle()
        return Walk(found["calls"], found["files"], found["changes"], found["depth"])

    def _toggle(self) -> dict[str, int]:
        told = self._folder / "walk.json"
        told.unlink(missing_ok=True)
        os.kill(self._worker, signal.SIGUSR1)
        end = CLOCK.monotonic() + _WAIT_SECONDS
        while not told.exists():
            if CLOCK.monotonic() > end:
                raise Unfit(f"the worker does not count within {_WAIT_SECONDS:.0f} s")
            pause(0.01)
        found: dict[str, int] = json.loads(told.read_bytes())
        return found

    def _get(self) -> None:
        _demand(self._proxy, request("GET", "/payment/helloworld"))

    def _pay(self, rule: str) -> None:
        self._number += 1
        path = "/payment/v2/payments" if rule == "plain" else f"/payment/v2/payments/{rule}"
        key = f"Idempotency-Key: walk-{self._number}"
        _demand(self._proxy, request("POST", path, body=b'{"amount": "1.00"}', fields=[key]))

    def _replayed(self) -> None:
        _control(self._bank, "revoke", {"client_id": MOCK_CLIENT_ID})
        self._pay("plain")


def _migrations() -> list[str]:
    return [f"moving{number}" for number in range(_MIGRATIONS)]


@contextmanager
def _running(folder: Path) -> Iterator[_Site]:
    shutil.copytree(_ROOT / "proxy", folder / "proxy", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (folder / "sitecustomize.py").write_text(_PROFILER)
    for name, secret in (("old", MOCK_CLIENT_SECRET), ("new", _OTHER_SECRET)):
        file = folder / f"{name}.secret"
        file.touch(mode=0o600)
        file.write_text(secret)
    port, bank_port = free_port(), free_port()
    configuration = _CONFIGURATION.format(
        bank=f"http://127.0.0.1:{bank_port}",
        port=port,
        client=MOCK_CLIENT_ID,
        other=_OTHER_CLIENT,
        token_path=MOCK_PATH,
        migrations="".join(_MIGRATION.format(name=name) for name in _migrations()),
    )
    (folder / "payproxy.toml").write_text(configuration)
    simulate = [*_COMMAND, "simulate", "--listen", f"127.0.0.1:{bank_port}"]
    with _open(simulate, folder, bank_port), connected(bank_port) as bank:
        _control(bank, "clients", {"flavor": "basic", "client_id": _OTHER_CLIENT, "secret": _OTHER_SECRET})
        with _open(_payproxy("serve", folder=folder), folder, port) as keeper, connected(port) as proxy:
            _, worker = family(keeper.pid)
            yield _Site(folder, proxy=proxy, bank=bank, worker=worker)


@contextmanager
def _open(command: Sequence[str], folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    log = folder / f"{port}.log"
    with running(command, log=log, environment=_environment(folder)) as process:
        until_open(port, process, log=log)
        yield process


def _payproxy(*arguments: str, folder: Path) -> list[str]:
    return [*_COMMAND, *arguments, "--config", str(folder / "payproxy.toml")]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def _control(bank: socket.socket, what: str, body: dict[str, Any]) -> None:
    """Have the simulator do *what*."""
    _demand(bank, request("POST", f"/_sim/{what}", body=json.dumps(body).encode()))


def _demand(connection: socket.socket, data: bytes) -> None:
    status, told = ask(connection, data)
    if status >= 400:
        raise WrongAnswer(f"{data.splitlines()[0].decode()} was answered with {status}: {told[:200]!r}")
