"""`payproxy health`: ask the running instance for its health; a probe's usual case is in `quick_health.py`.

It reads only two keys of the configuration: a file that is being edited may have faults or be invalid TOML, while the
instance runs on with the old one. It imports neither pydantic nor aiohttp, for probes that `quick_health.py` leaves.
"""

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxy.cli.instance import (
    DATA_DIRECTORY,
    PROBE_SECONDS,
    SOCKET_NAME,
    TIMEOUT_SECONDS,
    UnixConnection,
    answers,
    data_directories,
    hangs,
    why_not,
)
from proxy.cli.names import found_file, values_in
from proxy.cli.options import config_option, given_socket
from proxy.cli.output import ExitCode, Failure, emit, json_option, note
from proxy.settings.addresses import TcpAddress, UnixAddress, listen_address
from proxy.text import printable
from proxy.upstream.tls import client_context

LISTEN = "127.0.0.1:9901"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEndpoints:
    """Addresses to ask; *listen* is "" without an admin listener, *certificate_file* is "" without TLS."""

    socket: Path
    listen: str
    certificate_file: str


@click.command()
@config_option
@click.option("--ready", is_flag=True, help="Ask whether requests can be served, not only whether the process runs.")
@json_option
def health(config_path: Path | None, *, ready: bool, as_json: bool) -> int:
    """Ask the running instance whether it is alive; exit 0 if so, else 1.

    It asks over admin.sock in the data directory, else over the admin listener.
    """
    if (given := given_socket()) is not None:
        endpoints = AdminEndpoints(socket=given, listen="", certificate_file="")
    else:
        endpoints = find_endpoints(config_path, environ=os.environ, cwd=Path.cwd())
    status, answer = ask(endpoints, "/readyz" if ready else "/livez")
    checks = ((f"{one['name']} {one['verdict']}", printable(one["reason"], 500)) for one in answer["checks"])
    emit(answer, as_json=as_json, human="\n".join(f"{text}: {why}" if why else text for text, why in checks))
    return ExitCode.OK if status == 200 else ExitCode.FAILED


def find_endpoints(path: Path | None, *, environ: Mapping[str, str], cwd: Path) -> AdminEndpoints:
    """Return where to ask, by the same rules as `serve`; of a file that is invalid TOML, use what can be read."""
    found = found_file(path, environ=environ, cwd=cwd)
    values, broken = values_in(cwd / found) if found is not None else ({}, False)
    base = (cwd / found).parent if found is not None else cwd
    admin = values.get("admin")
    admin = admin if isinstance(admin, dict) else {}
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    directory = base / str(values.get("data_directory") or state or DATA_DIRECTORY)
    if found is not None and not (values.get("data_directory") or answers(directory)):
        # The key may be misspelt.
        directory = next(filter(answers, data_directories(cwd / found, environ=environ)), directory)
    if broken:
        note(f"{found} can't be read as TOML; the instance is looked for in {directory}")
    certificate = environ.get("PAYPROXY_ADMIN__CERTIFICATE_FILE", str(admin.get("certificate_file", "")))
    return AdminEndpoints(
        socket=directory / SOCKET_NAME,
        listen=environ.get("PAYPROXY_ADMIN__LISTEN", str(admin.get("listen", LISTEN))),
        certificate_file=str(base / certificate) if certificate else "",
    )


def ask(endpoints: AdminEndpoints, page: str) -> tuple[int, dict[str, Any]]:
    """Return status and JSON of *page* from the first address that answers; Failure if none does or it is invalid.

    An instance that hangs is not asked again: its listener is in the same process.
    """
    reason = ""
    for connection in _connections(endpoints):
        try:
            connection.request("GET", page, headers={"Host": "localhost", "Accept": "application/json"})
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(connection, UnixConnection) and (hangs(error) or isinstance(error, PermissionError)):
                reason = why_not(Path(connection.path), error, seconds=PROBE_SECONDS)
            if isinstance(error, TimeoutError):
                break
        else:
            return status, _checks(body)
        finally:
            connection.close()
    other = f" or {endpoints.listen}" if endpoints.listen else ""
    raise Failure(reason or f"no instance answers on {endpoints.socket}{other}")


def _connections(endpoints: AdminEndpoints) -> list[http.client.HTTPConnection]:
    connections: list[http.client.HTTPConnection] = [UnixConnection(str(endpoints.socket), timeout=PROBE_SECONDS)]
    # An invalid value is a change that the running instance does not have; its socket still has the same path.
    with contextlib.suppress(ValueError):
        if endpoints.listen:
            address = listen_address(endpoints.listen)
            connections.append(
                listener_connection(address, certificate_file=endpoints.certificate_file, timeout=PROBE_SECONDS)
            )
    return connections


def listener_connection(
    address: TcpAddress | UnixAddress, *, certificate_file: str, timeout: float = TIMEOUT_SECONDS
) -> http.client.HTTPConnection:
    """Return a connection, not open yet, to the listener on *address*; with TLS if it has a certificate.

    Only that certificate is trusted, whatever names it has; if it can't be read, the system's authorities are.
    """
    if isinstance(address, UnixAddress):
        return UnixConnection(address.path, timeout=timeout)
    # A listener on all addresses is reached on loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - nothing is bound here
    if not certificate_file:
        return http.client.HTTPConnection(host, address.port, timeout=timeout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate_file)
    except OSError:
        context = client_context()
    return http.client.HTTPSConnection(host, address.port, timeout=timeout, context=context)


def _checks(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
        checks = [{name: str(check[name]) for name in ("name", "verdict", "reason")} for check in answer["checks"]]
        return {"passed": bool(answer["passed"]), "checks": checks}
    except (ValueError, TypeError, KeyError):
        raise Failure("what answers there is not payproxy") from None
