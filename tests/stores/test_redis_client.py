"""What Redis refuses, and how it fails, in words for operators."""

import re
from pathlib import Path
from typing import Any

import pytest

from proxy.stores.redis_client import StoreAway, connect, mapped_errors
from tests.support.redis import REDIS, VALKEY, redis_server


async def write(client: Any, how: str) -> None:
    """Write a value."""
    with mapped_errors():
        if how == "command":
            await client.set("name", "value", get=True)
        elif how == "script":
            await client.eval("redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], '')", 1, "name")
        else:
            async with client.pipeline(transaction=how == "transaction") as pipeline:
                pipeline.get("name")
                pipeline.set("name", "value")
                await pipeline.execute()


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "its memory is full (OOM)"),
        (("REPLICAOF", "127.0.0.1", "1"), "read-only replica (READONLY)"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), "(NOREPLICAS)"),
        (("ACL", "SETUSER", "default", "-set"), "(NOPERM)"),
        (("CONFIG", "SET", "requirepass", "secret"), "it requires a password (NOAUTH)"),
        (("RPUSH", "name", "x"), "another type (WRONGTYPE)"),
    ],
    ids=["full", "read-only", "no replicas", "forbidden", "password", "type"],
)
@pytest.mark.parametrize("program", [REDIS, VALKEY])
@pytest.mark.parametrize("how", ["command", "transaction", "pipeline", "script"])
async def test_what_redis_refuses_is_named(
    tmp_path: Path, *, setup: tuple[str, ...], words: str, how: str, program: str
) -> None:
    """By its code and what to do, whether one command was refused, or one in a pipeline, a transaction or a script."""
    async with redis_server(tmp_path, program=program) as server:
        await server.command(*setup)
        client, _ = connect(server.url, ca_file="", seconds=30.0)
        try:
            with pytest.raises(StoreAway, match=re.escape(words)):
                await write(client, how)
        finally:
            await client.aclose()
