"""What the page of a request with unknown outcome costs the keeper's loop."""

import time  # noqa: TID251 - processor time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.keeper.inquiries import Inquiries
from proxy.keeper.inquiry import About
from proxy.keeper.sockets import Sockets
from proxy.routing.compile import route_table
from proxy.settings.addresses import TcpAddress
from proxy.simulator.server import simulator
from tests.journeys.support import configured
from tests.keeper.migrating import Migrating
from tests.keeper.test_generation import generation_of

INQUIRY = (
    'inquiry = {path = "/payment/v2/payments?requestId={Request-Id}", found = {status = 200, member = "payments"}, '
    'not_found = {status = 200, member = "payments"}}\n'
)
RULES = 1000


async def unused(_value: object) -> Any:
    """Record what nobody asks for."""
    raise NotImplementedError


def least(act: Callable[[], object]) -> float:
    """Return the seconds of this thread that *act* takes when nothing disturbs it."""
    taken = []
    for _ in range(20):
        began = time.thread_time()
        act()
        taken.append(time.thread_time() - began)
    return min(taken)


async def test_to_say_whether_the_bank_can_be_asked_compiles_no_rules(tmp_path: Path) -> None:
    """With a thousand of them that would take 6 ms of the loop for each page."""
    rules = "".join(
        f'\n[[routes]]\nname = "r{number}"\npath = "/r{number}"\nupstream = "simulator"\ncredential = "mock"\n{INQUIRY}'
        for number in range(RULES)
    )
    sockets = Sockets(TcpAddress(host="127.0.0.1", port=0), workers=1)
    migrating = Migrating(directory=tmp_path)
    async with simulator(clock=SystemClock(), entropy=SystemEntropy()) as bank:
        text = configured(tmp_path, bank.url).read_text() + rules
        generation = generation_of(tmp_path, text, migrating, sockets)
    inquiries = Inquiries(lambda: generation, operated=unused, record=unused, clock=SystemClock())
    side = generation.table.routes[-1].own
    asked = About(
        id="x", route=f"r{RULES - 1}", environment=generation.snapshot.environment, upstream="simulator",
        upstream_url=side.url, credential="mock", client_digest=side.token_key.client_digest, side="",
        index={"Request-Id": "1"},
    )  # fmt: skip

    assert "no token of credential mock" in inquiries.objection(asked)
    assert least(lambda: inquiries.objection(asked)) < least(lambda: route_table(generation.snapshot)) / 4
    await generation.token_manager.close()
    sockets.close()
