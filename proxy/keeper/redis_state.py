"""Builds the replicas from [state]: reads its files and opens its Redis, again after each outage."""

import asyncio
from pathlib import Path

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.keeper.replicas import Replicas
from proxy.keeper.replication import SharedStateUnusable
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.migration.stores.encryption import Seal, read_key
from proxy.migration.stores.redis import RedisStore, StoreAway
from proxy.settings.masked_url import UrlUnusable
from proxy.settings.model import Settings


def replicas_of(
    settings: Settings, *, host: str, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy
) -> Replicas:
    """Return this instance as a replica on *host*, from *settings*; raise SharedStateUnusable."""
    section = settings.state
    try:
        url = section.redis()
        keys = [read_key(Path(file)) for file in section.encryption_key_files]
    except UrlUnusable as error:
        raise SharedStateUnusable(f"state.url_file: {section.url_file} {error}") from None
    except OSError as error:
        raise SharedStateUnusable(f"state.encryption_key_files: {error.filename}: {error.strerror}") from None
    if url is None or not keys:
        raise SharedStateUnusable("[state] names no Redis, or no encryption key")

    async def opened() -> RedisStore:
        # Read again each time: a file may have been replaced.
        try:
            keys = [await asyncio.to_thread(read_key, Path(file)) for file in section.encryption_key_files]
            fresh = await asyncio.to_thread(section.redis)
        except (OSError, UrlUnusable):
            raise StoreAway("its URL or keys can't be read any more") from None
        seal = Seal(keys, environment=settings.environment, entropy=entropy)
        return RedisStore(fresh or url, ca_file=section.ca_file, environment=settings.environment, seal=seal)

    return Replicas(opened, host=host, weights=weights, pins=pins, clock=clock, entropy=entropy)
