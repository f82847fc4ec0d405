"""What a stranger sends costs the loop no more than what anyone does."""

import asyncio
import json
import random  # noqa: TID251 - only repeatable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.clock import SystemClock
from proxy.records.journal import STEP_SECONDS
from proxy.records.mask import Mask
from proxy.records.mask_rules import MOST_STEPS, Steps
from proxy.records.record import RecordBuilder
from proxy.request_summary import Chosen
from tests.records.dearest import Candidate, search
from tests.records.support import CONTEXT, an_exchange, journal_lines, open_journal, until

MASK = Mask(bytes(32))
CARD = "4111111111111111"
ORDINARY = Candidate(served=True, texts=["accounts/DE89370400440532013000", "page=1", "POST", "", "998482157630"])


@pytest.mark.parametrize("served", [True, False])
def test_the_dearest_request_is_not_dear(served: bool) -> None:  # noqa: FBT001 - a table's column
    """Found by searching: a record costs at most what 60 with one IBAN do; it was 5,000 before there was a bound."""
    dearest = list(islice(search(random.Random(7), served=served), 150))[-1]  # noqa: S311 - only repeatable

    assert dearest.measure().cost < 60 * ORDINARY.measure().cost


@given(st.integers(0, MOST_STEPS), st.sampled_from(["{}", "GB12 " * 20 + "{}", "%2531 " * 9 + "{}", "1 2 3 {} 4 5 6"]))
def test_nothing_survives_whatever_steps_are_left(left: int, around: str) -> None:
    """A text in which no more may be searched is masked as one, and texts that share the steps are too."""
    steps = Steps(left)
    for written in (MASK.text(around.format(CARD), steps), MASK.index(f"order {CARD}", steps)):
        assert CARD not in written
        assert "…" in written


def test_of_a_refused_request_little_is_kept() -> None:
    """Who was refused before a rule took the request may send 33 values of 2 KB: 512 characters are looked at."""
    exchange = an_exchange(
        chosen=Chosen(), attempts=[], status=403, index=(("merchant-id", "GB12" * 500),) * 33, path="/" + "a" * 4000
    )
    record = json.loads(RecordBuilder(CONTEXT, MASK).exchange(exchange))

    assert len(record["path"]) <= 513
    assert len(record["index"]["merchant-id"]) < 600
    assert record["index"]["merchant-id"].endswith("…")


async def test_records_that_are_dear_are_built_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop serves others between them, and all are written."""
    async with open_journal(tmp_path, durable=False) as journal:
        ticking = iter(range(10**6))
        monkeypatch.setattr(SystemClock, "monotonic", lambda _: next(ticking) * 0.6 * STEP_SECONDS)
        for _ in range(40):
            journal.finish(an_exchange())
        assert journal._finished
        turns = 0
        while journal._finished:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 5
        await until(lambda: len(journal_lines(tmp_path)) == 40)
