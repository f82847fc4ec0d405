"""The worker's end of the link."""

import asyncio

from proxy.link.channel import WorkerChannel, receive
from proxy.link.codec import encode
from proxy.link.messages import Accept, ClaimDropped, Message, Ready

ONE, OTHER = ClaimDropped(f"{1:016x}"), ClaimDropped(f"{2:016x}")


def test_messages_are_passed_on_once_they_are_complete() -> None:
    """However the bytes were split."""
    received: list[Message] = []
    channel = WorkerChannel(on_message=received.append, on_invalid=lambda _: None, on_lost=lambda: None)
    data = encode(ONE) + encode(OTHER) + encode(Accept())
    for at in range(len(data) - 1):
        channel.data_received(data[at : at + 1])
    assert received == [ONE, OTHER]

    channel.data_received(data[-1:])

    assert received == [ONE, OTHER, Accept()]


def test_a_keeper_that_is_gone_gets_nothing_and_is_reported_once() -> None:
    """The worker is about to stop, so what it still wants to say is for nobody."""
    lost: list[bool] = []
    channel = WorkerChannel(on_message=lambda _: None, on_invalid=lambda _: None, on_lost=lambda: lost.append(True))

    channel.connection_lost(None)
    channel.send(Ready())
    channel.close()

    assert lost == [True]


async def test_half_a_message_is_none() -> None:
    """A process that was killed may have sent it."""
    reader = asyncio.StreamReader()
    reader.feed_data(encode(ONE) + encode(OTHER)[:-1])
    reader.feed_eof()

    assert await receive(reader) == ONE
    assert await receive(reader) is None
