"""The proxies that are compared: payproxy as shipped, nginx, Envoy and a naive one, each with one core."""

import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import envoy
from bench.bank import FILES_PATH, PAYMENT, PAYMENT_PATH, SMALL_PATH, TOKEN, Bank, user_line
from bench.machine import CLOCK, PROXY_CORE, Unfit, cpu_seconds, family, pause, program, running
from bench.talk import WrongAnswer, ask, connected, free_port, request, trust, until_open

_READY_SECONDS = 30.0
# A candidate may still be writing its log when the load has ended; that is part of its price.
_QUIET_CPU = 0.01
_QUIET_BOUND_SECONDS = 20.0
# Less than any line, and more than Envoy keeps for a while: it writes when it has 64 KB, or after 10 s.
_LINE_BYTES = 60
_UNWRITTEN_BYTES = 262144
_LOG_SECONDS = 30.0
_LOGS = {"payproxy": "requests.jsonl", "nginx": "access.log", "Envoy": "access.log"}

_PAYPROXY = """\
environment = "mock"

[server]
listen = "127.0.0.1:{port}"
workers = {workers}
{tls}
[admin]
listen = "{admin}"

[request_log]
database = "{database}"
stdout = false
file = "requests.jsonl"
durability = "{durability}"

[upstreams.bank]
url = "{url}"
ca_file = "{certificate}"

[credentials.bench]
flavor = "basic"
client_id = "bench"
client_secret_file = "secret"
token_url = "{url}/token"
ca_file = "{certificate}"

[[routes]]
name = "bank"
path = "/bank"
upstream = "bank"
credential = "bench"
"""

_NGINX = """\
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log {directory}/access.log combined;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_max_body_size 0;
  client_body_temp_path {directory}/incoming;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream bank {{
    server 127.0.0.1:{bank_port};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  # Before 1.23.4 nginx offers callers no more than TLS 1.2 by itself, whose resumed handshake costs half.
  ssl_protocols TLSv1.3;
  server {{
    listen 127.0.0.1:{port} {tls}{reuseport}backlog=4096;
    location / {{
      proxy_pass https://bank;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {token}";
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_trusted_certificate {certificate};
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


class Candidate:
    """One running proxy: its *port*, and the process at the root of it; callers trust *tls* if it demands TLS.

    *log* is the file in which it writes a line for each request, None if it writes none.
    """

    def __init__(
        self, name: str, *, port: int, root: int, tls: ssl.SSLContext | None, log: Path | None, quiet_seconds: float
    ) -> None:
        self.name = name
        self.port = port
        self._log = log
        self._quiet_seconds = quiet_seconds
        self._root = root
        self._tls = tls

    @property
    def processes(self) -> list[int]:
        """Return its processes as they are now, the root first: payproxy's keeper, then its workers."""
        return family(self._root)

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used, once it has finished what the load left behind."""
        end = CLOCK.monotonic() + _QUIET_BOUND_SECONDS
        pids = self.processes
        before = cpu_seconds(pids)
        while CLOCK.monotonic() < end:
            pause(self._quiet_seconds)
            after = cpu_seconds(pids)
            if after - before <= _QUIET_CPU:
                return after
            before = after
        return before

    def logged_bytes(self) -> int:
        """Return how large its log is now."""
        return self._log.stat().st_size if self._log is not None and self._log.exists() else 0

    def until_logged(self, requests: int, *, since: int) -> None:
        """Wait until its log has as many lines more than at *since* bytes; raises WrongAnswer if it never has."""
        if self._log is None:
            return
        end = CLOCK.monotonic() + _LOG_SECONDS
        wanted = since + requests * _LINE_BYTES - _UNWRITTEN_BYTES
        while self.logged_bytes() < wanted:
            if CLOCK.monotonic() > end:
                raise WrongAnswer(f"{self.name} logged {self.logged_bytes() - since} bytes for {requests} requests")
            pause(0.05)

    def verify(self, bank: Bank) -> None:
        """Raise WrongAnswer unless it hands on what it must, with its own token in place of the caller's."""
        put = os.urandom(3000)
        stored = bank.files / f"check-{self.port}"
        with self._connected() as connection:
            for fields in ((), ("Authorization: Bearer the-callers-own",)):
                self._demand(ask(connection, request("GET", SMALL_PATH, fields=fields)), bank.small)
            self._demand(ask(connection, request("POST", PAYMENT_PATH, body=PAYMENT)), bank.payment)
            status, _ = ask(connection, request("PUT", f"{FILES_PATH}/{stored.name}", body=put))
        if status not in {201, 204} or stored.read_bytes() != put:
            raise WrongAnswer(f"{self.name} did not hand on a body as it was (status {status})")

    def _connected(self) -> socket.socket:
        plain = connected(self.port)
        return plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname="localhost")

    def _demand(self, got: tuple[int, bytes], body: bytes) -> None:
        if got != (200, body):
            raise WrongAnswer(f"{self.name} answered {got[0]} with {len(got[1])} bytes that are not the bank's")

    def __repr__(self) -> str:
        return f"<Candidate {self.name} on {self.port}, {len(self.processes)} processes>"


Command = Callable[[Path, Bank, int], list[str]]


@contextmanager
def started(name: str, command: Command, *, directory: Path, bank: Bank, quiet_seconds: float) -> Iterator[Candidate]:
    """Run a candidate on its core while the block lasts; it has answered rightly once the block begins.

    *quiet_seconds* are how long it must use no CPU until it counts as done with what the load left behind.
    """
    place = Path(tempfile.mkdtemp(prefix=f"{name.replace(' ', '-')}-", dir=directory))
    port = free_port()
    log = place / "output.log"
    with running(command(place, bank, port), log=log, core=PROXY_CORE) as process:
        until_open(port, process, log=log)
        tls = trust(bank.certificate) if name.endswith(TLS) else None
        lines = next((place / file for kind, file in _LOGS.items() if name.startswith(kind)), None)
        candidate = Candidate(name, port=port, root=process.pid, tls=tls, log=lines, quiet_seconds=quiet_seconds)
        _until_right(candidate, bank)
        yield candidate


def payproxy(
    *, durability: str = "intent", workers: int = 1, database: str = "", admin: str = "", tls: bool = False
) -> Command:
    """Return how payproxy is started, as shipped but for what is named here; with *admin*, an address, the console."""

    def command(directory: Path, bank: Bank, port: int) -> list[str]:
        secret = directory / "secret"
        secret.touch(mode=0o600)
        secret.write_text("bench-secret")
        (directory / "payproxy.toml").write_text(
            _PAYPROXY.format(
                port=port,
                workers=workers,
                durability=durability,
                database=database,
                admin=admin,
                url=bank.url,
                certificate=bank.certificate,
                tls=f'certificate_file = "{bank.certificate}"\nkey_file = "{bank.key}"\n' if tls else "",
            )
        )
        return [sys.executable, "-m", "proxy", "serve", "--config", str(directory / "payproxy.toml")]

    return command


def nginx(directory: Path, bank: Bank, port: int, *, tls: bool = False, workers: int = 1) -> list[str]:
    """Return how nginx is started as a proxy that adds the header."""
    path = directory / "nginx.conf"
    path.write_text(
        _NGINX.format(
            directory=directory,
            bank_port=bank.port,
            port=port,
            workers=workers,
            token=TOKEN,
            certificate=bank.certificate,
            key=bank.key,
            tls="ssl " if tls else "",
            # Else one of its workers may get no connection at all, and fewer than four are measured.
            reuseport="reuseport " if workers > 1 else "",
            user=user_line(),
        )
    )
    return [program("nginx", package="nginx-light"), "-c", str(path)]


def naive(directory: Path, bank: Bank, port: int, *, tls: bool = False) -> list[str]:
    """Return how the naive proxy is started."""
    (directory / "token").write_text(TOKEN)
    return [
        sys.executable, "-m", "bench.naive", str(port), bank.url, str(bank.certificate), str(directory / "token"),
        *([str(bank.key)] if tls else ()),
    ]  # fmt: skip


# What is appended to the names of candidates whose callers come over TLS (by the bank's certificate).
TLS = ", TLS"
FOUR = ", 4 workers"
COMMANDS: dict[str, Command] = {
    "payproxy": payproxy(),
    "payproxy async": payproxy(durability="async"),
    "payproxy, SQLite": payproxy(database="sqlite:requests.db"),
    "nginx": nginx,
    "Envoy": envoy.command,
    "naive": naive,
    f"payproxy{TLS}": payproxy(tls=True),
    f"payproxy async{TLS}": payproxy(durability="async", tls=True),
    f"nginx{TLS}": partial(nginx, tls=True),
    f"Envoy{TLS}": partial(envoy.command, tls=True),
    f"naive{TLS}": partial(naive, tls=True),
    f"payproxy{FOUR}": payproxy(workers=4),
    f"nginx{FOUR}": partial(nginx, workers=4),
    f"Envoy{FOUR}": partial(envoy.command, workers=4),
    f"payproxy{FOUR}{TLS}": payproxy(workers=4, tls=True),
    f"nginx{FOUR}{TLS}": partial(nginx, workers=4, tls=True),
    f"Envoy{FOUR}{TLS}": partial(envoy.command, workers=4, tls=True),
}


def _until_right(candidate: Candidate, bank: Bank) -> None:
    """Wait for a first answer that is right: a proxy may listen before it has its token."""
    end = CLOCK.monotonic() + _READY_SECONDS
    while True:
        try:
            candidate.verify(bank)
        except (WrongAnswer, OSError) as error:
            if CLOCK.monotonic() > end:
                raise Unfit(f"{candidate.name} does not work here: {error}") from None
            pause(0.1)
        else:
            return
