"""`payproxy logs prove`: test whether a body is the one that the proxy saw."""

import asyncio
import hmac
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.log_database import database_option, record_of
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option
from proxy.records.body_hmac import body_digest, read_body_key
from proxy.records.copies import CopyUnreadable

_PIECE_BYTES = 1024 * 1024


@click.command()
@click.argument("id_", metavar="ID")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@database_option
@config_option
@json_option
def prove(id_: str, file: Path, database_file: Path | None, config_path: Path | None, *, as_json: bool) -> None:
    """Tell whether FILE is the body of request ID, by the record's body_hmac. Ends with 1 if it is not.

    Or whether it is the JWS that was sent in place of a body that is signed.
    """
    configuration = load_configuration(config_path)
    log = configuration.settings.request_log
    if not log.body_hmac_key_file:
        raise Failure("records carry no body_hmac: request_log.body_hmac_key_file is not set")
    try:
        digest = body_digest(read_body_key(Path(log.body_hmac_key_file)))()
        with file.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
        record = asyncio.run(record_of(configuration.settings, database_file, id_, search_file=True))
    except OSError as error:
        raise Failure(f"{error.filename or file}: {error.strerror or error}") from None
    except CopyUnreadable as error:
        raise Failure(str(error)) from None
    recorded = str(record.get("body_hmac", ""))
    same = hmac.compare_digest(recorded, digest.hexdigest())
    signature = record.get("signature")
    sent = str(signature.get("body_hmac", "")) if isinstance(signature, dict) else ""
    as_sent = bool(sent) and hmac.compare_digest(sent, digest.hexdigest())
    if not recorded:
        what = "the record has no body_hmac: the request had no body, it did not arrive whole, or no key was set then"
    elif same:
        what = "this is the body of the request"
    elif as_sent:
        what = "this is what was sent to the bank: the signed body of the request (a JWS, whose payload is the body)"
    else:
        what = "this is NOT the body of the request, or the key is another one now"
    rows = [(name, str(record.get(name, ""))) for name in ("id", "time", "caller", "method", "path", "request_bytes")]
    value = {
        "same": same,
        "as_sent": as_sent,
        "recorded": recorded,
        "computed": digest.hexdigest(),
        "time": record.get("time", ""),
    }
    emit(value, as_json=as_json, human=f"{what}\n{facts(rows)}")
    if not (same or as_sent):
        raise click.exceptions.Exit(ExitCode.FAILED)
