import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bench.bank import Bank, bank
from bench.candidates import COMMANDS, FOUR, TLS, Candidate, started
from bench.load import ClosedLoop
from bench.talk import WrongAnswer, connected
from bench.window import check

pytestmark = [
    pytest.mark.skipif(not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin"), reason=f"{name} is missing")
    for name in ("nginx", "wrk")
]


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Bank]:
    """Run the benchmark's bank."""
    files = tmp_path / "files"
    files.mkdir()
    with bank(tmp_path, files=files, large_bytes=1048576) as running:
        yield running


def nginx(kind: str, stand_in: Bank, tmp_path: Path) -> AbstractContextManager[Candidate]:
    """Run nginx as that *kind* of candidate while the block lasts."""
    return started(f"nginx{kind}", COMMANDS[f"nginx{kind}"], directory=tmp_path, bank=stand_in, quiet_seconds=0.05)


@pytest.mark.parametrize("kind", [TLS, f"{FOUR}{TLS}"])
def test_nginx_serves_callers_by_tls_1_3_as_the_others_do(kind: str, stand_in: Bank, tmp_path: Path) -> None:
    """Before 1.23.4 it offers 1.2 by itself, in which a resumed session needs no key exchange."""
    context = ssl.create_default_context(cafile=str(stand_in.certificate))
    with (
        nginx(kind, stand_in, tmp_path) as candidate,
        context.wrap_socket(connected(candidate.port), server_hostname="localhost") as connection,
    ):
        assert connection.version() == "TLSv1.3"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_short_window_of_wrk_is_counted_by_the_bank_as_by_wrk(method: str, stand_in: Bank, tmp_path: Path) -> None:
    """Interrupted before its whole second is over, wrk still says what it did."""
    with nginx("", stand_in, tmp_path) as candidate:
        before = stand_in.count()
        load = ClosedLoop(tmp_path, stand_in).run(candidate.port, 0.3, method=method, connections=4)

        assert load.requests
        candidate.until_logged(load.requests, since=0)
        check(candidate.name, load, before, stand_in.count())


def test_a_candidate_that_does_not_log_its_requests_is_refused(
    stand_in: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be cheaper than the others by what a line costs."""
    monkeypatch.setattr("bench.candidates._LOG_SECONDS", 0.0)
    with nginx("", stand_in, tmp_path) as candidate, pytest.raises(WrongAnswer, match="for 1000000 requests"):
        candidate.until_logged(1_000_000, since=candidate.logged_bytes())
