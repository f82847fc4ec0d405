import asyncio
from pathlib import Path

import pytest

from proxy.errors import UpstreamReset
from proxy.upstream.write_coalescer import WriteCoalescer
from tests.upstream.certificates import Authority, server_context
from tests.upstream.support import GET, bank, call, eventually, pool_of, soon


class Noting:
    """Notes when it is flushed, and may have more to send then."""

    def __init__(self, name: str, log: list[str], *, then: "tuple[WriteCoalescer, Noting] | None" = None) -> None:
        self._name = name
        self._log = log
        self._then = then

    def flush(self) -> None:
        """Note it."""
        self._log.append(self._name)
        if self._then is not None:
            outbox, sender = self._then
            outbox.put(sender)


class Breaking:
    """Raises."""

    def flush(self) -> None:
        """Raise."""
        raise ZeroDivisionError


async def busy() -> WriteCoalescer:
    """Return an outbox that had much to send lately."""
    outbox, log = WriteCoalescer(), list[str]()
    for _ in range(16):
        outbox.put(Noting("", log))
    await eventually(lambda: outbox._usual > 3)
    return outbox


async def test_in_a_quiet_turn_nothing_waits() -> None:
    """A lone message would lose by it; and once turns are quiet again, they count as such."""
    for outbox, turns in ((WriteCoalescer(), 0), (await busy(), 4)):
        log = list[str]()
        for _ in range(turns):
            outbox.put(Noting("gathered", []))
            await asyncio.sleep(0)
        outbox.put(Noting("now", log))
        assert log == ["now"]


async def test_all_of_a_busy_turn_is_sent_at_its_end_in_order() -> None:
    """What a flush brings up goes in the next turn: the list that is walked never grows."""
    outbox, log = await busy(), list[str]()
    loop = asyncio.get_running_loop()
    outbox.put(Noting("first", log, then=(outbox, Noting("third", log))))
    outbox.put(Noting("second", log))
    loop.call_soon(log.append, "next turn")
    assert log == []

    await eventually(lambda: "third" in log)

    assert log == ["first", "second", "next turn", "third"]


async def test_a_sender_that_breaks_holds_up_no_other() -> None:
    """The loop reports it, and the others are sent in the next turn."""
    outbox, log, reported = await busy(), list[str](), list[dict[str, object]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    outbox.put(Noting("first", log))
    outbox.put(Breaking())
    outbox.put(Noting("last", log))

    await eventually(lambda: "last" in log)

    assert log == ["first", "last"]
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_a_request_given_up_in_its_turn_is_not_sent(tmp_path: Path) -> None:
    """Over TLS: it counts as sent all the same, which errs on the safe side."""
    authority = Authority(tmp_path)
    async with bank(tls=server_context(authority.identity("bank"))) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            await call(pool)
            pool._opener._shared.outbox._usual = 1000
            connection = await pool.connect()
            reply = connection.send_whole(GET, to_head=False, now=soon(0), deadline=soon())
            connection.abort()
            assert connection.sent
            with pytest.raises(UpstreamReset):
                await reply
            await eventually(lambda: not pool._open)
            assert await call(pool) == (200, b"ok", False)
        assert (it.heads, it.connections) == (2, 2)


async def test_requests_of_one_turn_reach_the_bank_whole(tmp_path: Path) -> None:
    """On connections of their own; each gets its answer."""
    authority = Authority(tmp_path)
    async with bank(tls=server_context(authority.identity("bank"))) as it:
        async with pool_of(it.port, scheme="https", ca_file=str(authority.own.file)) as pool:
            assert await asyncio.gather(*(call(pool) for _ in range(8))) == [(200, b"ok", False)] * 8
            assert await asyncio.gather(*(call(pool) for _ in range(8))) == [(200, b"ok", True)] * 8
        assert (it.heads, it.connections) == (16, 8)
