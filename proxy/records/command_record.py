"""Records written by commands: left in the data directory, where the keeper finds them, now or at its next start."""

import os
import pwd
from pathlib import Path

from proxy.atomic_file import create_file
from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.records.audit_records import AuditRecords
from proxy.records.chain_id import chain_id
from proxy.records.mask import Mask
from proxy.records.masking_key import masking_key
from proxy.records.record import RecordContext
from proxy.records.segment import JOURNALS, segment_path
from proxy.settings.model import Settings
from proxy.settings.values import digest, instance_name


def command_records(settings: Settings, *, clock: Clock, entropy: Entropy) -> AuditRecords:
    """Return the builder of a command's records; makes chain id and masking key if there are none. Raises OSError."""
    directory = Path(settings.data_directory)
    context = RecordContext(
        environment=settings.environment,
        instance=instance_name(settings),
        config_digest=digest(settings),
        chain=chain_id(directory, entropy=entropy),
    )
    return AuditRecords(context, mask=Mask(masking_key(directory, entropy=entropy)), clock=clock, entropy=entropy)


def command_user() -> str:
    """Return the user who runs this command; not from the environment, which anyone can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def write_command_record(data_directory: Path, record: bytes, *, entropy: Entropy) -> None:
    """Write *record*, a whole line, as a journal of its own, and sync it. Raises OSError and then leaves no file.

    The file is renamed into place when complete: the keeper may read and remove it at once. Its owner is that of the
    data directory, since the command may run as root and the keeper does not.
    """
    directory = data_directory / JOURNALS
    owner = data_directory.stat()
    if not directory.exists():
        directory.mkdir(mode=0o700)
        os.chown(directory, owner.st_uid, owner.st_gid)
    path = segment_path(directory, f"command-{entropy.token_bytes(8).hex()}", 1)
    create_file(path, record, entropy=entropy)
