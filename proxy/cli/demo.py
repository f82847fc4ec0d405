"""`payproxy demo`: run simulator and proxy together on loopback, with keys and configuration made for it."""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click

from proxy.cli.config_template import template
from proxy.cli.demo_steps import DemoSteps, StepFailed
from proxy.cli.files import NewFile, write_new
from proxy.cli.instance import DATA_DIRECTORY, STATUS, Denied, NotRunning, ask
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

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_INDENT = "   "
_MORE = """\
It keeps running until Ctrl-C. Try:
  curl -i {url}/payment/helloworld
  curl -i {url}/payment/v2/payments -H 'Idempotency-Key: mine' -d '{{"amount": 1}}'
  payproxy trigger revoked --at {bank}   # then call again; also timeout, reset, slow, night, off
  payproxy status --config {configuration}
  tail -f {records}
Console: http://127.0.0.1:{admin_port}/console/; health and metrics: http://127.0.0.1:{admin_port}/"""


@click.command()
@click.option("--once", is_flag=True, help="Exit after the tour: 0 if every step succeeded, else 1.")
def demo(*, once: bool) -> None:
    """Run the bank's simulator and the proxy together on loopback, and walk through what works."""
    try:
        if not asyncio.run(_demo(SystemClock(), once=once)):
            raise click.exceptions.Exit(ExitCode.FAILED)
    except (KeyboardInterrupt, asyncio.CancelledError):
        note("stopped")


async def _demo(clock: Clock, *, once: bool) -> bool:
    running = asyncio.current_task()
    if running is not None:  # else the proxy would outlive this process
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with tempfile.TemporaryDirectory(prefix="payproxy-demo-") as folder:
        directory = Path(folder)
        jwt, adfs = (_make_pair(directory, name, now=clock.now()) for name in ("login", "adfs"))
        async with simulator(clock=clock, entropy=SystemEntropy(), jwt_certificate=jwt, adfs_certificate=adfs) as bank:
            port, admin_port = _free_port(8080), _free_port(9901)
            configuration = _write(directory, bank, port=port, admin_port=admin_port)
            url = f"http://127.0.0.1:{port}"
            text = f"The bank's simulator is on {bank.url}, the proxy on {url}; everything is on this machine."
            click.echo(wrapped(text, width=terminal_width()))
            click.echo(f"Console: http://127.0.0.1:{admin_port}/console/\n")
            async with _proxy(directory, clock):
                good = await _run_steps(
                    DemoSteps(url, bank, configuration=configuration, clock=clock, explain=_indented)
                )
                if once or not good:
                    return good
                places = {"records": directory / "requests.jsonl", "configuration": configuration}
                click.echo(_MORE.format(url=url, bank=bank.url, admin_port=admin_port, **places))
                await asyncio.Event().wait()
    return True


async def _run_steps(demo: DemoSteps) -> bool:
    """Run the steps until one fails; return whether all succeeded."""
    async with contextlib.aclosing(demo):
        for number, (name, step) in enumerate(demo.steps(), 1):
            click.echo(paint(f"{number}. {name}", "cyan"))
            try:
                await step()
            except StepFailed as failure:
                note(f"step {number} ({name}) failed: {failure}")
                return False
            click.echo("")
    click.echo(f"All {len(demo.steps())} steps succeeded.")
    return True


@contextlib.asynccontextmanager
async def _proxy(directory: Path, clock: Clock) -> AsyncIterator[None]:
    """Run `payproxy serve` as a process of its own while the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--config", str(directory / "payproxy.toml"),
        stderr=(log := (directory / "payproxy.log").open("wb")),
    )  # fmt: skip
    try:
        end = clock.monotonic() + _START_SECONDS
        while not await asyncio.to_thread(_ready, directory):
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


def _ready(directory: Path) -> bool:
    with contextlib.suppress(NotRunning, Denied):
        return bool(ask(directory / DATA_DIRECTORY, STATUS)["ready"])
    return False


def _make_pair(directory: Path, name: str, *, now: float) -> bytes:
    """Write NAME.key and NAME.crt and return the certificate, which the simulator registers."""
    key = new_key()
    subject = Subject.parse(f"C=US,ST=New York,L=New York,O=Demo,OU=Demo,CN=payproxy-demo-{name}")
    certificate = public_pem(self_signed(key, subject, now=now, entropy=SystemEntropy()))
    secret = NewFile(path=directory / f"{name}.key", data=key_pem(key), secret=True)
    write_new([secret, NewFile(path=directory / f"{name}.crt", data=certificate)])
    return certificate


def _write(directory: Path, bank: Bank, *, port: int, admin_port: int) -> Path:
    """Write the configuration and the secret that it names, and return its path."""
    text = template("demo").format(
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
    configuration = NewFile(path=directory / "payproxy.toml", data=text.encode())
    secret = NewFile(path=directory / "mock.secret", data=MOCK_CLIENT_SECRET.encode(), secret=True)
    write_new([configuration, secret])
    return configuration.path


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on loopback")


def _indented(*parts: str) -> None:
    click.echo(wrapped(" ".join(parts), width=terminal_width(), first=_INDENT, indent=_INDENT))
