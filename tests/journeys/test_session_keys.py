"""$SSLKEYLOGFILE in the environment makes no process of payproxy write the session keys of its connections down."""

import asyncio
import contextlib
import ssl
from pathlib import Path

from proxy.simulator.server import Bank
from tests.journeys.conftest import Start
from tests.journeys.migrated import migrated
from tests.journeys.process import Instance
from tests.journeys.support import private
from tests.journeys.waiting import until
from tests.support.redis import redis_server
from tests.upstream.certificates import Authority


async def test_session_keys_of_redis_and_admin_listener_are_not_written_down(
    tmp_path: Path, bank: Bank, start: Start
) -> None:
    """redis-py and the admin listener take the default TLS context, which would write them there."""
    authority = Authority(tmp_path)
    own = authority.identity("own")
    private(tmp_path / "state.key", "5a" * 32)
    private(tmp_path / "admin.pem", own.file.read_text())
    files = ("--tls-cert-file", str(own.file), "--tls-key-file", str(own.file), "--tls-ca-cert-file", str(own.file))
    async with redis_server(tmp_path, "--tls-auth-clients", "no", *files, tls=True) as redis:
        state = (
            f'[state]\nurl = "rediss://127.0.0.1:{redis.port}/0"\nca_file = "{authority.own.file}"\n'
            'encryption_key_files = ["state.key"]\n'
        )
        configuration = migrated(tmp_path, bank, more=state)
        admin = 'certificate_file = "admin.pem"\nkey_file = "admin.pem"\n'
        configuration.write_text(configuration.read_text().replace("[admin]\n", f"[admin]\n{admin}"))
        log = tmp_path / "session-keys"

        instance = await start(configuration, env={"SSLKEYLOGFILE": str(log)}, ready=False)

        context = ssl.create_default_context(cafile=authority.own.file)
        await until(lambda: _has_reached_the_redis(instance, context), otherwise="it did not reach the Redis")
        assert not log.exists()


async def _has_reached_the_redis(instance: Instance, context: ssl.SSLContext) -> bool:
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(*instance.admin, ssl=context)
        writer.write(b"GET /readyz?verbose HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return b"[+]migrations ok" in answer
    return False
