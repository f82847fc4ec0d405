"""What a worker is told when it begins, while the keeper's state goes on changing."""

import asyncio
import contextlib
import socket
from itertools import count
from pathlib import Path

from proxy.clock import SystemClock
from proxy.credentials.body_signer import load_body_signers
from proxy.credentials.credential import Credential
from proxy.entropy import SystemEntropy
from proxy.keeper.generation import Generation
from proxy.keeper.sockets import Sockets
from proxy.link.channel import LIMIT, receive
from proxy.link.messages import Accept, Message, NewPins, TokenUpdate
from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.side import Side
from proxy.settings.addresses import TcpAddress
from proxy.settings.values import snapshot_of
from proxy.simulator.server import simulator
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.status import Status
from proxy.tokens.token_share import TokenSharing
from tests.journeys.support import configured
from tests.keeper.migrating import Migrating
from tests.keeper.support import no_journals, worker_of
from tests.settings.support import load_text
from tests.upstream.support import eventually

CLOCK = SystemClock()
# More than a socket and the writer's buffer take before somebody reads.
MANY = 10_000


def generation_of(directory: Path, text: str, migrating: Migrating, sockets: Sockets) -> Generation:
    """Return what serves by the configuration *text*."""
    loaded = load_text(directory, text)
    assert loaded.settings is not None, loaded.findings

    def status() -> Status:
        raise NotImplementedError

    return Generation(
        loaded.settings,
        snapshot_of(loaded.settings, instance="one"),
        {name: Credential.load(section, name=name) for name, section in loaded.settings.credentials.items()},
        sockets=sockets,
        metrics=Metrics(status=status),
        clock=CLOCK,
        entropy=SystemEntropy(),
        observe=lambda _: None,
        write_line=lambda _: None,
        journals=no_journals(),
        migrations=migrating.migrations,
        migrated=lambda _: None,
        serial=count(1),
        sharing=TokenSharing(),
        signers=load_body_signers(loaded.settings),
    )


async def _heard(reader: asyncio.StreamReader) -> list[Message]:
    """Return the messages up to the one that lets a worker accept connections."""
    heard = []
    while (message := await receive(reader)) is not None:
        heard.append(message)
        if isinstance(message, Accept):
            break
    return heard


async def test_a_token_minted_while_a_worker_is_told_of_pins_is_the_last_it_hears_of(tmp_path: Path) -> None:
    """Two million pins take seconds; what was known of the tokens before must not replace what came meanwhile."""
    migrating = Migrating(directory=tmp_path)
    await migrating.open()
    pin = RetryPin(Side.LEGACY, "simulator", CLOCK.now() + PIN_SECONDS, "payments", Reason.UNKNOWN)
    assert await migrating.migrations.pins.keep({f"{number:016x}": pin for number in range(MANY)})
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_unix_connection(sock=ours)
    process = await asyncio.create_subprocess_exec("true")
    worker = worker_of(process)
    worker.attach(writer)
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    async with simulator(clock=CLOCK, entropy=SystemEntropy()) as bank:
        generation = generation_of(tmp_path, configured(tmp_path, bank.url).read_text(), migrating, sockets)
        generation.workers._alive[0] = worker
        generation.workers.admit()
        telling = asyncio.create_task(generation.workers._let_serve(worker))
        await eventually(lambda: bool(writer.transport.get_write_buffer_size()))
        minting = asyncio.create_task(generation.token_manager.run())
        await eventually(lambda: all(one.usable for one in generation.token_manager.statuses()))
        assert not telling.done()

        reader, far_writer = await asyncio.open_unix_connection(sock=theirs, limit=LIMIT)
        heard = await _heard(reader)

        await telling
        minting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await minting
    assert sum(len(one.pins) for one in heard if isinstance(one, NewPins)) == MANY
    updates = [one for one in heard if isinstance(one, TokenUpdate)]
    assert len(updates) > 1
    assert updates[-1].token is not None
    for each in (writer, far_writer):
        each.close()
    await process.wait()
    sockets.close()
    await migrating.migrations.close()
