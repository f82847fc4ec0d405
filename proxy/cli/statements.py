"""Sign statements for auditors with the data directory's key, and check them."""

from collections.abc import Mapping
from pathlib import Path

import click

from proxy.cli.configuration import load_configuration
from proxy.cli.logs_copies import public_key_of
from proxy.cli.output import ExitCode, Failure, emit, printable
from proxy.clock import SystemClock, timestamp
from proxy.records.chain_id import read_chain_id
from proxy.records.checkpoint_key import KEY_FILE, CheckpointKey, fingerprint, read_checkpoint_key, read_public_key
from proxy.records.statement import StatementInvalid, signed_text, statement_in
from proxy.settings.model import Settings
from proxy.settings.values import instance_name


def statement_facts(settings: Settings, subject: str) -> dict[str, str]:
    """Return what a statement's head says: its subject, when, and of which instance and chain it is; raises Failure."""
    try:
        chain = read_chain_id(Path(settings.data_directory))
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None
    return {
        "subject": printable(subject),
        "time": timestamp(SystemClock().now()),
        "environment": settings.environment,
        "instance": instance_name(settings),
        "chain": chain,
    }


def signing_key(settings: Settings) -> CheckpointKey:
    """Return the key of the log's checkpoints; raises Failure."""
    path = Path(settings.data_directory) / KEY_FILE
    try:
        return read_checkpoint_key(path)
    except OSError as error:
        raise Failure(f"it can't be signed: {path}: {error.strerror or error}") from None


def signed(settings: Settings, subject: str, text: str) -> str:
    """Return *text* as a signed statement about *subject*; raises Failure."""
    return signed_text(printable(text), facts=statement_facts(settings, subject), key=signing_key(settings))


def verified(file: Path, key_file: Path | None, config_path: Path | None, *, as_json: bool) -> None:
    """Print whether *file* holds what was signed, and by whose key; raises Failure if it does not."""
    try:
        expected = read_public_key(key_file) if key_file else public_key_of(load_configuration(config_path).settings)
        found = statement_in(file.read_bytes())
    except StatementInvalid as invalid:
        raise Failure(f"{file}: {invalid}") from None
    except OSError as error:
        raise Failure(f"{error.filename or file}: {error.strerror or error}") from None
    whose = "the key given by --key" if key_file else "this data directory's key"
    own = found.public_key == expected
    values: Mapping[str, object] = {
        "valid": own, "public_key": found.public_key, "fingerprint": fingerprint(found.public_key), "text": found.text
    }  # fmt: skip
    words = f"signed by {whose}" if own else f"signed, but NOT by {whose}"
    emit(values, as_json=as_json, human=printable(f"{found.text}\n{words}: {fingerprint(found.public_key)}"))
    if not own:
        raise click.exceptions.Exit(ExitCode.FAILED)
