"""A client for Redis or Valkey, alone or watched by sentinels, and its errors in words for operators."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from proxy.migration.state import StateUnusable
from proxy.migration.stores.encryption import SealBroken
from proxy.settings.sentinel import SentinelUrl

# Timeout per operation: a slower Redis is no help to a waiting caller.
OPERATION_SECONDS = 0.5

# The Redis client strips the error code from the texts of these errors.
_REFUSALS = {
    ReadOnlyError: "it is a read-only replica (READONLY): name the master, or its sentinels",
    OutOfMemoryError: "its memory is full (OOM): raise maxmemory",
    BusyLoadingError: "it is loading its data (LOADING)",
}


class StoreAway(Exception):
    """Redis can't be reached, is too slow, or holds unreadable data; the message says which."""


class ValueBroken(StoreAway):
    """The shared value can't be read and was not written by a serving replica; *value* is its content."""

    def __init__(self, message: str, value: bytes) -> None:
        super().__init__(message)
        self.value = value


def connect(url: str, *, ca_file: str) -> tuple[Any, list[Any]]:
    """Return a client, and the clients of the sentinels that watch it.

    The library's types do not fix sync or async, bytes or text: here it is async, with bytes.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": OPERATION_SECONDS,
        "socket_connect_timeout": OPERATION_SECONDS,
        # No retries in the client: the outcome of the first attempt would be unknown.
        "retry": Retry(NoBackoff(), 0),
    }
    tls: dict[str, Any] = {
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        # As for the bank: the same certificates on every Python (docs/decisions/0018-private-authorities.md).
        "ssl_exclude_verify_flags": [ssl.VERIFY_X509_STRICT],
    }
    if ca_file:
        tls["ssl_ca_certs"] = ca_file
    sentinel = SentinelUrl.of(url)
    if sentinel is None:
        return redis.asyncio.from_url(url, **options, **(tls if url.startswith("rediss:") else {})), []
    if sentinel.tls:
        options |= tls | {"ssl": True}
    login = {"username": sentinel.username or None, "password": sentinel.password or None}
    asking = options | {"password": sentinel.sentinel_password or None}
    watching: Any = Sentinel(list(sentinel.addresses), sentinel_kwargs=asking, **options, **login)  # type: ignore[no-untyped-call]
    return watching.master_for(sentinel.service, db=sentinel.database), watching.sentinels


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Map every error to StoreAway, without its original text: that of Redis or its client may quote values."""
    try:
        yield
    except SealBroken as error:
        raise StoreAway(str(error)) from None
    except (StateUnusable, ValueError, TypeError, LookupError, AttributeError, UnicodeError):
        raise StoreAway("what is kept there is not what this payproxy writes") from None
    except (AuthenticationError, AuthorizationError, NoPermissionError):
        raise StoreAway("it refused our user or password, or what they may do") from None
    except (redis.exceptions.TimeoutError, TimeoutError):
        raise StoreAway("it did not answer in time") from None
    except ResponseError as error:
        known = next((words for kind, words in _REFUSALS.items() if isinstance(error, kind)), "")
        raise StoreAway(known or f"it refused a command ({str(error).partition(' ')[0][:32]})") from None
    except (RedisError, OSError) as error:
        raise StoreAway(f"it can't be reached ({type(error).__name__})") from None
