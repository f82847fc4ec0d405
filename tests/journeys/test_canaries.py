"""A full run with everything on and faults of all kinds: no planted secret is in anything that was put out."""

import asyncio
import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.simulator.server import Bank
from tests.journeys.canaries import Canary, Search, spellings
from tests.journeys.canary_faults import bank_fails, commands, reloads_are_refused, stores_are_away, workers_are_killed
from tests.journeys.canary_outputs import (
    check_that_they_were_used,
    files,
    last_records,
    made_on_the_way,
    pages,
    processes,
    stores,
)
from tests.journeys.canary_run import calls, everything, facade_calls
from tests.journeys.conftest import Start
from tests.journeys.echoing import CARD, TOKEN, Echo
from tests.journeys.everything_on import Site
from tests.records.postgres import Postgres, binaries, running_postgres
from tests.support.softhsm import Token, needs_softhsm

pytestmark = needs_softhsm


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Run a server of this test's own."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed")
    with running_postgres(found) as running:
        yield running


@pytest.mark.skipif(os.geteuid() != 0, reason="the environment of protected processes is read by root alone")
@pytest.mark.timeout(600)
async def test_no_secret_is_in_any_output(tmp_path: Path, bank: Bank, start: Start, postgres: Postgres) -> None:
    """Each is where it has to be (the bank, the token endpoint, the facade's answer) and nowhere else."""
    async with everything(tmp_path, bank, postgres) as run:
        a, b = [await start(run.configuration(name), env=run.env) for name in "ab"]
        await asyncio.gather(run.is_served(a), run.is_served(b))
        await calls(run, a)
        await facade_calls(run, a)
        code, process = await run.command("a", "migration set payments 50 --reason canary --force")
        assert code == 0, process.output
        await bank_fails(run, a)
        await reloads_are_refused(run, a)
        await stores_are_away(run, a)
        await asyncio.gather(commands(run), calls(run, b))
        processes(run, a, b)
        await pages(run, a, b)
        await workers_are_killed(run, a)
        await last_records(run, a=a, b=b)
        await stores(run)
        await b.kill_all()  # so that its journals stay
        assert await a.stop() == 0
        files(run)

        check_that_they_were_used(run)
        assert Search([*run.site.canaries(), *made_on_the_way(run)]).leaks(run.outputs) == []


async def test_every_canary_is_found_in_every_spelling(tmp_path: Path, bank: Bank) -> None:
    """The search fails for each secret, however it is written and wherever it stands."""
    (tmp_path / "hsm").mkdir()
    token = Token(tmp_path / "hsm")
    site = Site(folder=tmp_path, bank=bank, echo=Echo(), token=token, redis_port=1, postgres_port=1)
    site.plant()
    for canary in [*site.canaries(), Canary.of("card number", CARD), Canary.of("token", TOKEN)]:
        search = Search([canary])
        assert search.found(b"nothing of it\0") == []
        for spelling, needles in spellings(canary.value).items():
            for written in needles:
                found = search.found(b"at=" + written + b" in a text", jwt=False)
                assert any(canary.name in each for each in found), (canary.name, spelling, written)
        for before in (b"", b"a", b"ab"):
            assert search.found(base64.b64encode(before + canary.value + b"behind"), jwt=False)


def test_what_looks_like_a_jwt_is_found() -> None:
    """Whoever made it: also the beginning of one."""
    assert Search(()).found(b'"cause":"not good: eyJhbGciOiJSUzI1NiJ9.e"')
