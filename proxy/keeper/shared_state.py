"""What [state] shares with other replicas: the migrations' state in its Redis, and the masking of records."""

import asyncio
from pathlib import Path

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.replication import Replication, SharedStateUnusable
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.migration.stores.encryption import Seal, read_key
from proxy.records.masking_key import share_masking_key
from proxy.settings.extras import installation
from proxy.settings.model import Settings
from proxy.settings.stores import UrlUnusable


def replication_of(
    settings: Settings, *, host: str, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy
) -> Replication:
    """Return the replication that [state] configures, for a replica on *host*; raise SharedStateUnusable."""
    section = settings.state
    if not section.shared:
        return Replication()
    try:
        from proxy.keeper.replicas import Replicas  # noqa: PLC0415 - both import the client of the [redis] extra
        from proxy.migration.stores.redis import RedisStore  # noqa: PLC0415
        from proxy.migration.stores.redis_client import StoreAway  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if missing.name != "redis":
            raise
        needed = f"[state] names a Redis, and what it needs is not installed; {installation('redis')}"
        raise SharedStateUnusable(needed) from None
    try:
        url = section.redis()
    except UrlUnusable as error:
        raise SharedStateUnusable(f"state.url_file: {section.url_file} {error}") from None
    if url is None or not _encryption_keys(settings):
        raise SharedStateUnusable("[state] names no Redis, or no encryption key")

    async def opened() -> RedisStore:
        # Read again each time: a file may have been replaced.
        try:
            keys = await asyncio.to_thread(_encryption_keys, settings)
            fresh = await asyncio.to_thread(section.redis)
        except (SharedStateUnusable, UrlUnusable):
            raise StoreAway("its URL or keys can't be read any more") from None
        seal = Seal(keys, environment=settings.environment, entropy=entropy)
        return RedisStore(fresh or url, ca_file=section.ca_file, environment=settings.environment, seal=seal)

    return Replicas(opened, host=host, weights=weights, pins=pins, clock=clock, entropy=entropy)


def mask_alike(settings: Settings, *, entropy: Entropy) -> None:
    """Mask from now on as the other replicas do, by their encryption keys; raise SharedStateUnusable or OSError."""
    secrets = _encryption_keys(settings) if settings.state.shared else []
    share_masking_key(Path(settings.data_directory), secrets, environment=settings.environment, entropy=entropy)


def _encryption_keys(settings: Settings) -> list[bytes]:
    try:
        return [read_key(Path(file)) for file in settings.state.encryption_key_files]
    except OSError as error:
        raise SharedStateUnusable(f"state.encryption_key_files: {error.filename}: {error.strerror}") from None
