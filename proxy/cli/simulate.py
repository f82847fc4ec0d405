"""`payproxy simulate`: run only the simulator, the stand-in for the bank."""

import asyncio
from pathlib import Path

import click

from proxy.cli.output import ExitCode, Failure, note
from proxy.cli.scenario_file import read_scenario
from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.settings.addresses import TcpAddress, listen_address
from proxy.simulator.server import Bank, serve

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--listen", default="127.0.0.1:8090", show_default=True, help="host:port; loopback only.")
@click.option("--jwt-certificate", type=_file, help="Register the Client Testing client with this certificate.")
@click.option("--adfs-certificate", type=_file, help="Register the ADFS client with this certificate.")
@click.option("--scenario", type=_file, help="TOML file with faults and when they happen: the bank's bad day.")
def simulate(listen: str, jwt_certificate: Path | None, adfs_certificate: Path | None, scenario: Path | None) -> None:
    """Run the bank's simulator, three token endpoints and the APIs, for your own tests. It moves no money.

    `payproxy trigger` makes it misbehave while it runs; --scenario does so by a plan, see docs/bad-day.toml.
    """
    address = _loopback(listen)
    steps = read_scenario(scenario) if scenario else []
    try:
        asyncio.run(
            serve(
                address.host,
                address.port,
                clock=SystemClock(),
                entropy=SystemEntropy(),
                started=_started,
                jwt_certificate=jwt_certificate.read_bytes() if jwt_certificate else b"",
                adfs_certificate=adfs_certificate.read_bytes() if adfs_certificate else b"",
                steps=steps,
                tell=note,
            )
        )
    except OSError as error:
        raise Failure(f"can't listen on {listen}: {error.strerror or error}") from None


def _loopback(listen: str) -> TcpAddress:
    try:
        address = listen_address(listen)
    except ValueError as error:
        raise Failure(f"--listen: {error}", code=ExitCode.USAGE) from None
    if not isinstance(address, TcpAddress) or not address.loopback:
        text = "--listen: the simulator trusts every client, so it listens on loopback only"
        raise Failure(text, code=ExitCode.USAGE)
    return address


def _started(bank: Bank) -> None:
    note(f"the simulator stands in for the bank on {bank.url}; report files on {bank.files_url}")
    for client in bank.world.clients:
        note(f"  {client.flavor}: client_id {client.client_id}")
