"""What [state] shares with other replicas: tokens and the migrations' state in its Redis, the masking of records."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.events import Observer
from proxy.keeper.replication import Replication, SharedStateUnusable
from proxy.keeper.retry_pins import RetryPins
from proxy.keeper.weights import Weights
from proxy.records.masking_key import share_masking_key
from proxy.settings.extras import installation
from proxy.settings.model import Settings
from proxy.settings.stores import UrlUnusable
from proxy.stores.encryption import Seal, read_key
from proxy.tokens.token_share import TokenSharing

Store = TypeVar("Store")


def replication_of(
    settings: Settings, *, host: str, weights: Weights, pins: RetryPins, clock: Clock, entropy: Entropy
) -> Replication:
    """Return the replication that [state] configures, for a replica on *host*; raise SharedStateUnusable."""
    if not settings.state.shared:
        return Replication()
    with _extra():
        from proxy.keeper.replicas import Replicas  # noqa: PLC0415 - both import the client of the [redis] extra
        from proxy.migration.stores.redis import RedisStore  # noqa: PLC0415
    opened = _opener(settings, partial(RedisStore, clock=clock), entropy=entropy)
    return Replicas(opened, host=host, weights=weights, pins=pins, clock=clock, entropy=entropy)


def token_sharing_of(
    settings: Settings, *, host: str, clock: Clock, entropy: Entropy, observe: Observer
) -> Callable[[], TokenSharing]:
    """Return what makes the sharing that [state] configures for each token manager of a replica on *host*.

    Raises SharedStateUnusable.
    """
    if not settings.state.shared:
        return TokenSharing
    with _extra():
        from proxy.tokens.sharing import ReplicaSharing  # noqa: PLC0415 - both import the client of the [redis] extra
        from proxy.tokens.token_store import RedisTokenStore  # noqa: PLC0415
    opened = _opener(settings, RedisTokenStore, entropy=entropy)
    # A restarted replica is another one: what it minted before is not what it is known to work with now.
    replica = f"{host}-{entropy.token_bytes(4).hex()}"
    return lambda: ReplicaSharing(opened, replica=replica, clock=clock, entropy=entropy, observe=observe)


def mask_alike(settings: Settings, *, entropy: Entropy) -> None:
    """Mask from now on as the other replicas do, by their encryption keys; raise SharedStateUnusable or OSError."""
    secrets = _encryption_keys(settings) if settings.state.shared else []
    share_masking_key(Path(settings.data_directory), secrets, environment=settings.environment, entropy=entropy)


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    """Raise SharedStateUnusable if the block imports the client of Redis and it is not installed."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name != "redis":
            raise
        needed = f"[state] names a Redis, and what it needs is not installed; {installation('redis')}"
        raise SharedStateUnusable(needed) from None


def _opener(
    settings: Settings, make: Callable[..., Store], *, entropy: Entropy
) -> Callable[[], Coroutine[Any, Any, Store]]:
    """Return what opens the Redis of [state] as *make* does, with the keys as they are then."""
    with _extra():
        from proxy.stores.redis_client import StoreAway  # noqa: PLC0415
    section = settings.state
    try:
        url = section.redis()
    except UrlUnusable as error:
        raise SharedStateUnusable(f"state.url_file: {section.url_file} {error}") from None
    if url is None or not _encryption_keys(settings):
        raise SharedStateUnusable("[state] names no Redis, or no encryption key")

    async def opened() -> Store:
        # Read again each time: a file may have been replaced.
        try:
            keys = await asyncio.to_thread(_encryption_keys, settings)
            fresh = await asyncio.to_thread(section.redis)
        except (SharedStateUnusable, UrlUnusable):
            raise StoreAway("its URL or keys can't be read any more") from None
        seal = Seal(keys, environment=settings.environment, entropy=entropy)
        return make(fresh or url, ca_file=section.ca_file, environment=settings.environment, seal=seal)

    return opened


def _encryption_keys(settings: Settings) -> list[bytes]:
    try:
        return [read_key(Path(file)) for file in settings.state.encryption_key_files]
    except OSError as error:
        raise SharedStateUnusable(f"state.encryption_key_files: {error.filename}: {error.strerror}") from None
