import pytest

from proxy.entropy import SystemEntropy
from proxy.simulator.clients import MOCK_CLIENT_ID, Flavor
from proxy.simulator.faults import FaultKind
from proxy.simulator.world import World
from tests.support.clock import ManualClock


@pytest.fixture
def world() -> World:
    """A world in which time stands still."""
    return World(clock=ManualClock(now=1_800_000_000), entropy=SystemEntropy())


def test_the_clock_can_be_off(world: World) -> None:
    """The offset shows in the time and in the Date header."""
    right = world.http_date()
    world.clock_offset = -600

    assert world.now() == 1_800_000_000 - 600
    assert (right, world.http_date()) == ("Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 07:50:00 GMT")


def test_a_key_executes_once_per_client(world: World) -> None:
    """The same key and client give the same id and no second execution."""
    first = world.execute("c", "k", {})
    second = world.execute("c", "k", {})
    other = world.execute("d", "k", {})

    assert (first[1], second, other[1]) == (False, (first[0], True), False)
    assert world.accepted["k"] == 2


def test_mints_are_counted_by_what_is_asked(world: World) -> None:
    """Per client, per audience, or all."""
    world.mints.update({("c", "a"): 2, ("c", "b"): 3, ("d", "a"): 5})

    assert (world.mint_count(), world.mint_count("c"), world.mint_count("", "a"), world.mint_count("d", "b")) == (
        10,
        5,
        7,
        0,
    )


def test_reset_forgets_all_but_the_clients(world: World) -> None:
    """After a reset the world is as at the start, its clients and access apart."""
    world.register_secret_client("c", "s")
    world.clock_offset = 5
    world.faults.set(FaultKind.REFUSE)
    world.execute("c", "k", {})
    world.mints["c", "a"] += 1

    world.reset()

    assert world.clock_offset == 0
    assert not world.faults
    assert repr(world) == "<World [0 received, 0 minted, 0 executed]>"
    assert world.execute("c", "k", {})[1] is False
    assert world.clients.get(Flavor.MOCK, "c")
    assert world.clients.get(Flavor.MOCK, MOCK_CLIENT_ID)
