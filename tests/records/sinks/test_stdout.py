import asyncio
import os
from collections.abc import Iterator

import pytest

from proxy.records.sinks.sink import SinkUnavailable
from proxy.records.sinks.stdout import StdoutSink
from tests.records.support import until

LINE = b'{"kind":"exchange"}'


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield both ends of a pipe, reading end first."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


async def test_each_record_is_one_line(pipe: tuple[int, int]) -> None:
    """A line feed behind each."""
    sink = StdoutSink(pipe[1])

    await sink.write([LINE, LINE])

    assert os.read(pipe[0], 1000) == (LINE + b"\n") * 2
    await sink.close()


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_full_pipe_stalls_nothing_but_the_sink(pipe: tuple[int, int], blocking: bool) -> None:  # noqa: FBT001 - parametrized
    """The loop turns while nobody reads; all arrives once somebody does, also if the pipe is non-blocking."""
    os.set_blocking(pipe[1], blocking)
    sink = StdoutSink(pipe[1])
    batch = [LINE] * 20_000
    writing = asyncio.ensure_future(sink.write(batch))
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0.001)
        turns += 1
    assert turns == 100
    assert not writing.done()

    wanted = (LINE + b"\n") * 20_000
    read = b""
    while len(read) < len(wanted):
        read += await asyncio.to_thread(os.read, pipe[0], 65536)
    await writing

    assert read == wanted
    await sink.close()


async def test_close_does_not_wait_for_a_reader(pipe: tuple[int, int]) -> None:
    """A write into a full pipe ends as unavailable, and its batch is kept by the shipper."""
    sink = StdoutSink(pipe[1])
    writing = asyncio.ensure_future(sink.write([LINE] * 20_000))
    await until(lambda: sink._executor._threads)

    async with asyncio.timeout(60):
        await sink.close()

    with pytest.raises(SinkUnavailable):
        await writing


async def test_a_reader_that_is_gone_makes_it_unavailable(pipe: tuple[int, int]) -> None:
    """EPIPE is told as what it is."""
    os.close(pipe[0])
    sink = StdoutSink(pipe[1])

    with pytest.raises(SinkUnavailable, match="Broken pipe"):
        await sink.write([LINE])
    await sink.close()


async def test_a_line_cut_by_a_failure_is_ended_first(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch comes again on a line of its own."""
    sink = StdoutSink(pipe[1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", _half_then_fail(os.write))
        with pytest.raises(SinkUnavailable):
            await sink.write([LINE])
    await sink.write([LINE])

    assert os.read(pipe[0], 1000) == LINE[:5] + b"\n" + LINE + b"\n"
    await sink.close()


def _half_then_fail(real: object) -> object:
    calls = 0

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(5, "Input/output error")
        return real(descriptor, data[:5])  # type: ignore[operator,no-any-return]

    return write
