"""`python -m bench --walk`: how many functions and files of `proxy/` a request passes through in its worker.

It runs the sources as they are, never compiled: what is counted is what an engineer reads. Each figure is the least of
some requests, since heartbeats and counters are sent in between.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import CLOCK, Unfit, pause
from bench.report import Goal, Report
from proxy.simulator.clients import MOCK_CLIENT_ID, MOCK_CLIENT_SECRET
from proxy.simulator.token_endpoints import MOCK_PATH

_ROOT = Path(__file__).parent.parent
_OTHER_CLIENT, _OTHER_SECRET = "walk-client", "walk-secret"
_WARM = 50
_TIMES = 15
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
listen = "127.0.0.1:{admin}"

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

[[routes]]
name = "moving"
path = "/payment/v2/payments/moving"
upstream = "bank"
credential = "old"

[[routes]]
name = "plain"
path = "/"
upstream = "bank"
credential = "old"

[migrations.moving]
routes = ["moving"]
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
    """Return the one report; raises Unfit if the proxy can't be run."""
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
    """A simulator and a proxy with one worker before it."""

    def __init__(self, folder: Path, *, port: int, bank: int, worker: int) -> None:
        self._folder = folder
        self._port = port
        self._bank = bank
        self._worker = worker
        self._number = 0
        self._connections: dict[int, http.client.HTTPConnection] = {}  # kept alive

    def scenarios(self) -> Iterator[tuple[str, Walk]]:
        """Yield each kind of request with its walk."""
        for _ in range(_WARM):
            self._get()
            self._pay("plain")
        yield _GET, self._least(self._get)
        yield "POST with a durable intent", self._least(lambda: self._pay("plain"))
        yield "POST, 401 and replay", self._least(self._replayed)
        self._set_weight()
        for _ in range(_WARM):
            self._pay("moving")
        # Once: a second refusal would move the only caller back.
        self.control("fault", {"kind": "refuse", "client": _OTHER_CLIENT, "path": "/payment", "times": 1})
        yield "POST on a migrated rule, 401 and fallback", self._walk(lambda: self._pay("moving"))

    def _least(self, send: Callable[[], None]) -> Walk:
        return min((self._walk(send) for _ in range(_TIMES)), key=_numbers)

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
        _wait(told.exists, "the worker does not count")
        found: dict[str, int] = json.loads(told.read_bytes())
        return found

    def _get(self) -> None:
        self._ask(self._port, "GET", "/payment/helloworld")

    def _pay(self, rule: str) -> None:
        self._number += 1
        path = "/payment/v2/payments/moving" if rule == "moving" else "/payment/v2/payments"
        self._ask(self._port, "POST", path, {"amount": "1.00"}, {"Idempotency-Key": f"walk-{self._number}"})

    def _replayed(self) -> None:
        self.control("revoke", {"client_id": MOCK_CLIENT_ID})
        self._pay("plain")

    def _set_weight(self) -> None:
        command = ["migration", "set", "moving", "100", "--reason", "to be measured", "--config", "payproxy.toml"]
        subprocess.run(
            [sys.executable, "-m", "proxy", *command],
            cwd=self._folder, env=_environment(self._folder), check=True, capture_output=True,
        )  # fmt: skip

    def control(self, what: str, body: dict[str, Any]) -> None:
        """Have the simulator do *what*."""
        self._ask(self._bank, "POST", f"/_sim/{what}", body)

    def _ask(self, port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> None:
        connection = self._connections.get(port)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT_SECONDS)
            self._connections[port] = connection
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status >= 400:
            raise Unfit(f"{method} {path} was answered with {answer.status}: {told[:200]!r}")


@contextmanager
def _running(folder: Path) -> Iterator[_Site]:
    shutil.copytree(_ROOT / "proxy", folder / "proxy", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (folder / "sitecustomize.py").write_text(_PROFILER)
    ports = {name: _free_port() for name in ("bank", "port", "admin")}
    for name, secret in (("old", MOCK_CLIENT_SECRET), ("new", _OTHER_SECRET)):
        file = folder / f"{name}.secret"
        file.touch(mode=0o600)
        file.write_text(secret)
    (folder / "payproxy.toml").write_text(
        _CONFIGURATION.format(
            bank=f"http://127.0.0.1:{ports['bank']}",
            port=ports["port"],
            admin=ports["admin"],
            client=MOCK_CLIENT_ID,
            other=_OTHER_CLIENT,
            token_path=MOCK_PATH,
        )
    )
    with _started(folder, "simulate", "--listen", f"127.0.0.1:{ports['bank']}"):
        _wait(lambda: _listens(ports["bank"]), "the simulator does not listen")
        site = _Site(folder, port=ports["port"], bank=ports["bank"], worker=0)
        site.control("clients", {"flavor": "basic", "client_id": _OTHER_CLIENT, "secret": _OTHER_SECRET})
        with _started(folder, "serve", "--config", "payproxy.toml") as keeper:
            _wait(lambda: _listens(ports["port"]), "the proxy does not listen")
            [worker] = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
            yield _Site(folder, port=ports["port"], bank=ports["bank"], worker=int(worker))


@contextmanager
def _started(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        command = [sys.executable, "-m", "proxy", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=_environment(folder), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(_WAIT_SECONDS)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def _wait(what: Callable[[], bool], otherwise: str) -> None:
    end = CLOCK.monotonic() + _WAIT_SECONDS
    while not what():
        if CLOCK.monotonic() > end:
            raise Unfit(f"{otherwise} within {_WAIT_SECONDS:.0f} s")
        pause(0.01)
