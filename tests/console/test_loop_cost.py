"""What the console's pages take of the keeper's loop, where everything is large: counted in lines of Python."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import urlopen

import pytest

from proxy.settings.worker_values import SideValues
from proxy.telemetry.status import CertificateStatus, Status
from tests.console.support import Stage
from tests.console.test_status_pages import NOW, migration
from tests.keeper.migrating import PAYMENTS, Migrating
from tests.telemetry.support import caller_status, error_status, status, token

CREDENTIALS = 300
MIGRATIONS = 50
CALLERS = ERRORS = 1000
# CPython runs ten to twenty a microsecond, so that it is a fifth to two fifths of the 5 ms that a page may take.
MOST_LINES = 20_000
PAGES = (
    *("/console/", "/console/overview.json", "/console/history?window=7d", "/console/tokens", "/console/certificates"),
    *("/console/callers", "/console/errors", "/console/errors.json", "/console/sinks", "/console/migrations"),
    *("/console/requests", "/api/status"),
)


def large() -> Status:
    """Return the status of a large instance, without what was recent."""
    return status(
        time=NOW,
        tokens=tuple(token(credential=f"login-{number}") for number in range(CREDENTIALS)),
        certificates=tuple(
            CertificateStatus(name=f"login-{number}", use="credential", subject="CN=x", expires=NOW + number)
            for number in range(CREDENTIALS)
        ),
        migrations=tuple(migration(name=f"payments-{number}") for number in range(MIGRATIONS)),
    )


class Lines:
    """Lines that this thread has run."""

    number = 0

    def trace(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        """Count a line, and go on with those of what it calls."""
        self.number += event == "line"
        return self.trace


@contextmanager
def counted() -> Iterator[Lines]:
    """Count what this thread runs meanwhile."""
    lines, before = Lines(), sys.gettrace()
    sys.settrace(lines.trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def got(url: str) -> int:
    """Return the number of bytes at *url*."""
    with urlopen(url) as answer:  # noqa: S310 - loopback
        return len(answer.read())


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_takes_little_of_the_loop(tmp_path: Path, path: str) -> None:
    """However much there is to show; what was recent is looked up in a thread."""
    looked_up_in: list[int] = []

    def with_recent(found: Status) -> Status:
        looked_up_in.append(threading.get_ident())
        callers = tuple(caller_status(f"system-{number}", requests=1, last=NOW) for number in range(CALLERS))
        errors = tuple(error_status(route=f"route-{number}", last=NOW) for number in range(ERRORS))
        return replace(found, callers=callers, errors=errors)

    stage = Stage(directory=tmp_path, status=large(), with_recent=with_recent)
    async with stage.server() as server:
        host, port = server.addresses[0]
        url = f"http://{host}:{port}{path}"
        await asyncio.to_thread(got, url)
        with counted() as lines:
            size = await asyncio.to_thread(got, url)

    assert size > 1000
    assert 0 < lines.number < MOST_LINES
    assert threading.get_ident() not in looked_up_in


async def test_the_state_of_migrations_takes_little_of_the_loop(tmp_path: Path) -> None:
    """Each has to find the tokens of its two sides among all."""
    tokens = tuple(token(credential=f"login-{number}", audience="a") for number in range(CREDENTIALS))
    values = tuple(
        replace(
            PAYMENTS,
            name=f"payments-{number}",
            modern=SideValues(credential=f"login-{number}", audience="a", scope="", upstream=""),
        )
        for number in range(MIGRATIONS)
    )
    migrating = Migrating(directory=tmp_path, tokens=tokens)
    migrations = await migrating.open(values)
    with counted() as lines:
        states = migrations.states()

    assert [one.modern_token_at_hand for one in states] == [True] * MIGRATIONS
    assert lines.number < MOST_LINES
