"""`payproxy request METHOD PATH`: send one request through the running proxy, and show its times."""

import http.client
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.health import listener_connection
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, note
from proxy.clock import SystemClock
from proxy.settings.addresses import listen_address
from proxy.settings.model import ServerSection

# The proxy gives up after exchange_timeout and then answers with an error; wait for that answer.
_BEYOND_EXCHANGE_SECONDS = 10.0
_PIECE_BYTES = 65536
_FROM_FILE = "@"

Headers = Sequence[tuple[str, str]]


@click.command()
@click.argument("method")
@click.argument("path")
@click.option("-d", "--data", help="The body: text, @FILE, or @- for stdin.")
@click.option(
    "-H", "--header", "headers", multiple=True,
    help="'Name: value'; @FILE for one a line, like X-Payproxy-Key: no secret belongs on a command line.",
)  # fmt: skip
@config_option
@json_option
def request(
    method: str, path: str, data: str | None, headers: Sequence[str], config_path: Path | None, *, as_json: bool
) -> None:
    """Send METHOD PATH to the running proxy; the response body goes to stdout, everything else to stderr.

    PATH is as in the request line, with its query; http://HOST/... as a client with HTTP_PROXY sends it. Ends with 1
    for a status of 400 and above, with 69 if the proxy can't be reached.
    """
    server = load_configuration(config_path).settings.server
    body, fields = _body(data), _fields(headers)
    names = {name.lower() for name, _ in fields}
    if "host" not in names:
        # A listener with hosts accepts no other name; one without accepts at least loopback names.
        fields.append(("Host", server.hosts[0] if server.hosts else "localhost"))
    if body is not None:
        fields.append(("Content-Length", str(len(body))))
        if "content-type" not in names:
            fields.append(("Content-Type", "application/json"))
    clock = SystemClock()
    started = clock.monotonic()
    connection = _connected(server)
    events = [clock.monotonic()]
    try:
        answer = _sent(connection, method.upper(), path, fields, body)
        events.append(clock.monotonic())
        shown = answer.read() if as_json else _print_body(answer, sys.stdout.buffer)
        events.append(clock.monotonic())
    except (OSError, http.client.HTTPException):
        raise Failure(
            "the connection to the proxy broke before its answer ended; the request log knows whether it was sent"
        ) from None
    finally:
        connection.close()
    milliseconds = [round((event - started) * 1000, 3) for event in events]
    _report(answer, shown, dict(zip(("connect", "first_byte", "total"), milliseconds, strict=True)), as_json=as_json)
    if answer.status >= 400:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _report(answer: http.client.HTTPResponse, body: bytes, milliseconds: dict[str, float], *, as_json: bool) -> None:
    request_id, proxy_status = answer.getheader("Payproxy-Request-Id", ""), answer.getheader("Proxy-Status", "")
    value: dict[str, Any] = {
        "status": answer.status,
        "request_id": request_id,
        "proxy_status": proxy_status,
        "milliseconds": milliseconds,
        "headers": [list(header) for header in answer.getheaders()],
        "body": body.decode(errors="replace"),
    }
    if as_json:
        emit(value, as_json=True, human="")
    rows = [
        ("status", f"{answer.status} {answer.reason}".strip()),
        ("content-type", answer.getheader("Content-Type", "")),
        ("payproxy-request-id", request_id),
        ("proxy-status", proxy_status),
        *((name.replace("_", " "), f"{number:.1f} ms") for name, number in milliseconds.items()),
    ]
    note(facts([row for row in rows if row[1]]))


def _connected(server: ServerSection) -> http.client.HTTPConnection:
    """Return a connection to the traffic listener; raises Failure if it can't connect."""
    connection = listener_connection(
        listen_address(server.listen),
        certificate_file=server.certificate_file,
        timeout=server.exchange_timeout + _BEYOND_EXCHANGE_SECONDS,
    )
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        reason = (getattr(error, "reason", None) or error.strerror or "no answer").lower()
        raise Failure(
            f"no proxy answers on {server.listen} (server.listen): {reason}; start one with `payproxy serve`",
            code=ExitCode.UNAVAILABLE,
        ) from None
    return connection


def _sent(
    connection: http.client.HTTPConnection, method: str, path: str, fields: Headers, body: bytes | None
) -> http.client.HTTPResponse:
    """Send the request, with no header but *fields* and Connection; return the response after its head has arrived."""
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    except (http.client.InvalidURL, ValueError):
        raise click.BadParameter("a request line can't have this in it", param_hint="METHOD or PATH") from None
    for name, value in fields:
        try:
            connection.putheader(name, value.encode())
        except ValueError:
            raise click.BadParameter("a header can't have this in it", param_hint="-H") from None
    connection.putheader("Connection", "close")
    connection.endheaders(body)
    return connection.getresponse()


def _print_body(answer: http.client.HTTPResponse, out: BinaryIO) -> bytes:
    """Write the body to *out* as it arrives."""
    while piece := answer.read(_PIECE_BYTES):
        out.write(piece)
    out.flush()
    return b""


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith(_FROM_FILE):
        return None if data is None else data.encode()
    name = data.removeprefix(_FROM_FILE)
    return sys.stdin.buffer.read() if name == "-" else _read(name, hint="-d")


def _fields(headers: Sequence[str]) -> list[tuple[str, str]]:
    lines: list[str] = []
    for header in headers:
        if header.startswith(_FROM_FILE):
            text = _read(header.removeprefix(_FROM_FILE), hint="-H").decode(errors="replace")
            lines += [line for line in text.splitlines() if line.strip()]
        else:
            lines.append(header)
    fields = [line.partition(":") for line in lines]
    if not all(colon and name.strip() for name, colon, _ in fields):
        raise click.BadParameter("a header is written as 'Name: value'", param_hint="-H")
    return [(name.strip(), value.strip()) for name, _, value in fields]


def _read(name: str, *, hint: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{name}: {error.strerror}", param_hint=hint) from None
