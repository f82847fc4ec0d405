import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.load import Load, by_tcp, counted, open_loop
from bench.machine import Unfit
from bench.talk import WrongAnswer, request

BODY = b'{"status": "up"}'


@contextmanager
def answering(body: bytes) -> Iterator[int]:
    """Run a server that answers every request with *body*; the block gets its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def loop(port: int) -> list[float]:
    """Send twenty requests in an open loop."""
    return open_loop(by_tcp(port), request("GET", "/"), body=BODY, rate=100, seconds=0.2, connections=2)


def test_an_open_loop_measures_every_request() -> None:
    """It ends when the last answer is there."""
    with answering(BODY) as port:
        assert len(loop(port)) == 20


def test_an_open_loop_refuses_an_answer_that_is_not_the_banks() -> None:
    """A success with another body is none."""
    with answering(BODY.replace(b"up", b"no")) as port, pytest.raises(WrongAnswer, match="no"):
        loop(port)


def test_an_open_loop_ends_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that hangs says nothing."""
    monkeypatch.setattr("bench.load._STUCK_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(WrongAnswer, match="20 of 20 requests"):
        loop(silent.getsockname()[1])


def test_what_wrk_says_is_counted() -> None:
    """Requests, and how many a second by its own clock."""
    size = 1000 * (len(BODY) + 120)
    said = f"Running ...\nsummary: 1000 requests, {size} bytes, 500000 us, 0 socket errors, 0 not 2xx\n"

    assert counted(said, BODY) == Load(1000, 2000.0)


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ("1000 requests, 200000 bytes, 500000 us, 1 socket errors, 0 not 2xx", "1 socket errors"),
        ("1000 requests, 200000 bytes, 500000 us, 0 socket errors, 3 not 2xx", "3 not 2xx"),
        ("0 requests, 0 bytes, 500000 us, 0 socket errors, 0 not 2xx", "0 requests"),
        ("1000 requests, 15000 bytes, 500000 us, 0 socket errors, 0 not 2xx", "answers of 15 bytes"),
        ("1000 requests, 9000000 bytes, 500000 us, 0 socket errors, 0 not 2xx", "answers of 9000 bytes"),
    ],
)
def test_errors_and_answers_of_another_size_end_a_run(figures: str, reason: str) -> None:
    """No figure is made of requests that failed."""
    with pytest.raises(WrongAnswer, match=reason):
        counted(f"summary: {figures}", BODY)


def test_a_wrk_that_says_nothing_is_no_measurement() -> None:
    """The message has what it did say."""
    with pytest.raises(Unfit, match="unable to connect"):
        counted("unable to connect", BODY)
