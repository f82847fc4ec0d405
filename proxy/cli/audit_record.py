"""Write the record of what a command did, for the next start of the proxy or the running one to take into the log."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.records.audit_records import AuditRecords
from proxy.records.chain_id import chain_id
from proxy.records.command_record import write_command_record
from proxy.records.mask import Mask
from proxy.records.masking_key import masking_key
from proxy.records.record import RecordContext
from proxy.settings.model import Settings
from proxy.settings.values import digest, instance_name


def write_audit_record(settings: Settings, make: Callable[[AuditRecords], bytes]) -> None:
    """Write the record that *make* builds to the data directory; raises OSError."""
    directory, entropy = Path(settings.data_directory), SystemEntropy()
    context = RecordContext(
        environment=settings.environment,
        instance=instance_name(settings),
        config_digest=digest(settings),
        chain=chain_id(directory, entropy=entropy),
    )
    mask = Mask(masking_key(directory, entropy=entropy))
    record = make(AuditRecords(context, mask=mask, clock=SystemClock(), entropy=entropy))
    write_command_record(directory, record, entropy=entropy)


def current_user() -> str:
    """Return the user who runs this command; not from the environment, which anyone can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
