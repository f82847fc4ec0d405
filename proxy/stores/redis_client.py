"""A client for Redis or Valkey, alone or watched by sentinels, and its errors in words for operators."""

import asyncio
import contextlib
import re
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
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from proxy.errors import MALFORMED
from proxy.settings.sentinel import SentinelUrl
from proxy.stores.encryption import SealBroken

# Timeout per operation: a slower Redis is no help to a waiting caller.
OPERATION_SECONDS = 0.5

# What the error codes of Redis (the first word of an error) mean here, and what to do.
_REFUSALS = {
    "READONLY": "it is a read-only replica (READONLY): name the master, or its sentinels",
    "OOM": "its memory is full (OOM): raise maxmemory",
    "LOADING": "it is loading its data (LOADING)",
    "NOAUTH": "it requires a password (NOAUTH): the URL has none",
    "WRONGPASS": "it refused our user or password (WRONGPASS)",
    "NOPERM": "its user may not do this (NOPERM): allow it all commands on the keys payproxy:*",
    "MISCONF": "it can't save its data, and takes no writes (MISCONF): look at its disk",
    "NOREPLICAS": "it takes no writes without enough replicas of its own (NOREPLICAS)",
    "MASTERDOWN": "it is a replica that has lost its master (MASTERDOWN)",
    "MOVED": "it is a cluster (MOVED): name a single server, or its sentinels",
    "CLUSTERDOWN": "it is a cluster (CLUSTERDOWN): name a single server, or its sentinels",
    "WRONGTYPE": "one of the keys payproxy:* was overwritten with another type (WRONGTYPE)",
    "BUSY": "it is busy with a script (BUSY)",
}
_REFUSAL = re.compile(rf"\b({'|'.join(_REFUSALS)})\b")
# Redis 7.0, and Redis 7.2 and Valkey.
_FORBIDDEN_IN_SCRIPT = re.compile("The user executing the script can't|ACL failure in script")
# The client strips the code from the texts of these errors.
_CODES: tuple[tuple[type[RedisError], str], ...] = (
    (ReadOnlyError, "READONLY"),
    (OutOfMemoryError, "OOM"),
    (BusyLoadingError, "LOADING"),
    (NoPermissionError, "NOPERM"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (MovedError, "MOVED"),
)


class StoreAway(Exception):
    """Redis can't be reached, is too slow, or holds unreadable data; the message says which."""


class ValueBroken(StoreAway):
    """The shared value can't be read and was not written by a serving replica; *value* is its content."""

    def __init__(self, message: str, value: bytes) -> None:
        super().__init__(message)
        self.value = value


def connect(url: str, *, ca_file: str, seconds: float = OPERATION_SECONDS) -> tuple[Any, list[Any]]:
    """Return a client, and the clients of the sentinels that watch it; *seconds* is the timeout for each operation.

    The library's types do not fix sync or async, bytes or text: here it is async, with bytes.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
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
    except MALFORMED:
        raise StoreAway("what is kept there is not what this payproxy writes") from None
    except (redis.exceptions.TimeoutError, TimeoutError):
        raise StoreAway("it did not answer in time") from None
    except (RedisError, OSError) as error:
        raise StoreAway(_in_words(error)) from None


def raise_if_cancelled() -> None:
    """Raise a cancellation that the client has swallowed; for every loop of a task that uses the client.

    Seen with redis-py 8.1 while connecting, and in any command: it writes by `asyncio.wait_for`, which before Python
    3.12 swallows a cancellation that comes just when the write is done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def is_wrong_type(error: object) -> bool:
    """Return whether *error* is the answer to a command on a key of another type."""
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _in_words(error: RedisError | OSError) -> str:
    text = str(error)
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return _REFUSALS["NOAUTH" if "Authentication required" in text else "WRONGPASS"]
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "")
    if _FORBIDDEN_IN_SCRIPT.search(text):
        code = "NOPERM"
    # A pipeline or a script puts its own words before the code.
    if not code and isinstance(error, RedisError) and (found := _REFUSAL.search(text)):
        code = found[1]
    if code:
        return _REFUSALS[code]
    if isinstance(error, ResponseError):
        return f"it refused a command ({text.partition(' ')[0][:32]})"
    if "max number of clients reached" in text:
        return "it has no connection left for us (maxclients)"
    return f"it can't be reached ({type(error).__name__})"
