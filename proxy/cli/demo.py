"""`payproxy demo`: run simulator and proxy together on loopback, with keys and configuration made for it."""

import asyncio
import contextlib
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click

from proxy.cli.demo_steps import DemoSteps, StepFailed
from proxy.cli.output import ExitCode, note, paint, terminal_width, wrapped
from proxy.clock import Clock, SystemClock
from proxy.credentials.csr import Subject, key_pem, new_key, public_pem, self_signed
from proxy.entropy import SystemEntropy
from proxy.simulator.clients import (
    ADFS_CLIENT_ID,
    AUDIENCES,
    JWT_CLIENT_ID,
    MOCK_CLIENT_ID,
    MOCK_CLIENT_SECRET,
    RESOURCES,
)
from proxy.simulator.server import Bank, simulator
from proxy.simulator.token_endpoints import ADFS_PATH, MOCK_PATH, MODERN_PATH

_START_SECONDS = 20.0
_STOP_SECONDS = 20.0
_INDENT = "   "

_CONFIGURATION = """\
environment = "client-testing"

[server]
listen = "127.0.0.1:{port}"

[admin]
listen = "127.0.0.1:{admin_port}"

[request_log]
stdout = false
file = "requests.jsonl"

[upstreams.simulator]
url = "{bank}"

[credentials.mock]
flavor = "basic"
client_id = "{mock_client}"
client_secret_file = "mock.secret"
token_url = "{bank}{mock_path}"

[credentials.login]
flavor = "jwt"
client_id = "{jwt_client}"
private_key_file = "login.key"
certificate_file = "login.crt"
token_url = "{bank}{modern_path}"

[credentials.adfs]
flavor = "adfs"
client_id = "{adfs_client}"
private_key_file = "adfs.key"
certificate_file = "adfs.crt"
token_url = "{bank}{adfs_path}"

[[routes]]
name = "hello"
path = "/payment/helloworld"
methods = ["GET"]
upstream = "simulator"
credential = "mock"

[[routes]]
name = "payments"
path = "/payment/v2"
upstream = "simulator"
credential = "login"
audience = "{payments}"

[[routes]]
name = "validations"
path = "/tsapi/v2"
upstream = "simulator"
credential = "login"
audience = "{validations}"
remint_on = [{{ status = 403, body = "GCA-001" }}]

[[routes]]
name = "online-payments"
path = "/api/v2"
upstream = "simulator"
credential = "adfs"
audience = "{commerce}"

[[routes]]
name = "moving"
path = "/echo"
upstream = "simulator"
credential = "adfs"
audience = "{commerce}"

[migrations.moving]
routes = ["moving"]
legacy = {{ credential = "adfs", audience = "{commerce}" }}
modern = {{ credential = "login", audience = "{payments}" }}
sticky = "header:X-System"
"""


@click.command()
@click.option("--once", is_flag=True, help="Exit after the tour: 0 if every step succeeded, else 1.")
def demo(*, once: bool) -> None:
    """Run the bank's simulator and the proxy together on loopback, and walk through what works."""
    try:
        good = asyncio.run(_demo(SystemClock(), once=once))
    except KeyboardInterrupt:
        note("stopped")
        raise click.exceptions.Exit(ExitCode.OK) from None
    if not good:
        raise click.exceptions.Exit(ExitCode.FAILED)


async def _demo(clock: Clock, *, once: bool) -> bool:
    with tempfile.TemporaryDirectory(prefix="payproxy-demo-") as folder:
        directory = Path(folder)
        jwt, adfs = (_make_pair(directory, name, now=clock.now()) for name in ("login", "adfs"))
        async with simulator(clock=clock, entropy=SystemEntropy(), jwt_certificate=jwt, adfs_certificate=adfs) as bank:
            port, admin_port = _free_port(8080), _free_port(9901)
            configuration = _write(directory, bank, port=port, admin_port=admin_port)
            url = f"http://127.0.0.1:{port}"
            text = f"The bank's simulator is on {bank.url}, the proxy on {url}; everything is on this machine."
            _say(wrapped(text, width=terminal_width()) + "\n")
            async with _proxy(directory, clock, admin_port=admin_port):
                good = await _walk(DemoSteps(url, bank, configuration=configuration, clock=clock, say=_indented))
                if once or not good:
                    return good
                _say("It keeps running until Ctrl-C. Try:")
                _say(f"  curl -i {url}/payment/helloworld")
                _say(f"  curl -i {url}/payment/v2/payments -H 'Idempotency-Key: mine' -d '{{\"amount\": 1}}'")
                _say(f"  curl -X POST {bank.url}/_sim/revoke -d '{{\"all\": true}}'   # then call again")
                _say(f"  tail -f {directory / 'requests.jsonl'}")
                _say(f"Admin: http://127.0.0.1:{admin_port}/ (health, metrics, status)")
                await asyncio.Event().wait()
    return True


async def _walk(tour: DemoSteps) -> bool:
    """Run the steps until one fails; return whether all succeeded."""
    try:
        for number, (name, step) in enumerate(tour.steps(), 1):
            _say(paint(f"{number}. {name}", "cyan"))
            try:
                await step()
            except StepFailed as failure:
                note(f"step {number} ({name}) failed: {failure}")
                return False
            _say("")
    finally:
        await tour.close()
    _say(f"All {len(tour.steps())} steps succeeded.")
    return True


@contextlib.asynccontextmanager
async def _proxy(directory: Path, clock: Clock, *, admin_port: int) -> AsyncIterator[None]:
    """Run `payproxy serve` as a process of its own while the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--config", str(directory / "payproxy.toml"),
        stderr=(log := (directory / "payproxy.log").open("wb")),
    )  # fmt: skip
    try:
        end = clock.monotonic() + _START_SECONDS
        while not await _ready(admin_port):
            if process.returncode is not None or clock.monotonic() > end:
                note((directory / "payproxy.log").read_text())
                raise click.exceptions.Exit(ExitCode.FAILED)
            await clock.sleep(0.05)
        yield
    finally:
        log.close()
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()


async def _ready(admin_port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
    except OSError:
        return False
    writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
    head = await reader.read()
    writer.close()
    return b" 200 " in head.partition(b"\r\n")[0]


def _make_pair(directory: Path, name: str, *, now: float) -> bytes:
    """Write NAME.key and NAME.crt and return the certificate, which the simulator registers."""
    key = new_key()
    subject = Subject.parse(f"C=US,ST=New York,L=New York,O=Demo,OU=Demo,CN=payproxy-demo-{name}")
    certificate = public_pem(self_signed(key, subject, now=now, entropy=SystemEntropy()))
    _write_private(directory / f"{name}.key", key_pem(key))
    (directory / f"{name}.crt").write_bytes(certificate)
    return certificate


def _write(directory: Path, bank: Bank, *, port: int, admin_port: int) -> Path:
    text = _CONFIGURATION.format(
        port=port,
        admin_port=admin_port,
        bank=bank.url,
        mock_client=MOCK_CLIENT_ID,
        jwt_client=JWT_CLIENT_ID,
        adfs_client=ADFS_CLIENT_ID,
        mock_path=MOCK_PATH,
        modern_path=MODERN_PATH,
        adfs_path=ADFS_PATH,
        payments=AUDIENCES["payments"],
        validations=AUDIENCES["validations"],
        commerce=RESOURCES["commerce"],
    )
    _write_private(directory / "mock.secret", MOCK_CLIENT_SECRET.encode())
    configuration = directory / "payproxy.toml"
    configuration.write_text(text)
    return configuration


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


def _say(line: str) -> None:
    click.echo(line)


def _indented(*parts: str) -> None:
    click.echo(wrapped(" ".join(parts), width=terminal_width(), first=_INDENT, indent=_INDENT))
