"""Gives instances that share a state the same masking, by a key derived from that state's encryption keys."""

from pathlib import Path

from proxy.entropy import Entropy
from proxy.keeper.replication import SharedStateUnusable
from proxy.migration.stores.encryption import read_key
from proxy.records.masking_key import share_masking_key
from proxy.settings.model import Settings


def mask_alike(settings: Settings, *, entropy: Entropy) -> None:
    """Mask from now on as the other replicas do; raise SharedStateUnusable or OSError."""
    section = settings.state
    try:
        secrets = [read_key(Path(file)) for file in section.encryption_key_files] if section.shared else []
    except OSError as error:
        raise SharedStateUnusable(f"state.encryption_key_files: {error.filename}: {error.strerror}") from None
    share_masking_key(Path(settings.data_directory), secrets, environment=settings.environment, entropy=entropy)
