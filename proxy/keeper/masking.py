"""Instances that share a state mask alike, with a key made of what seals that state."""

from pathlib import Path

from proxy.entropy import Entropy
from proxy.keeper.replication import SharedStateUnusable
from proxy.migration.stores.encryption import read_key
from proxy.records.masking_key import share_masking_key
from proxy.settings.model import Settings


def mask_alike(settings: Settings, *, entropy: Entropy) -> None:
    """Have all that is masked from now on masked as other replicas do it; raises ShareUnusable, OSError."""
    section = settings.state
    try:
        secrets = [read_key(Path(file)) for file in section.encryption_key_files] if section.shared else []
    except OSError as error:
        raise SharedStateUnusable(f"state.encryption_key_files: {error.filename}: {error.strerror}") from None
    share_masking_key(Path(settings.data_directory), secrets, environment=settings.environment, entropy=entropy)
