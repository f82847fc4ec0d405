from proxy.keeper.heartbeat import CHECK_SECONDS, Heartbeat
from tests.support.clock import ManualClock


async def test_a_heartbeat_is_missing_until_something_is_heard() -> None:
    """Each check adds what has passed since the last one."""
    clock = ManualClock()
    heartbeat = Heartbeat(clock)
    for _ in range(4):
        await clock.advance(CHECK_SECONDS)
        heartbeat.check()
    assert heartbeat.seconds == 4 * CHECK_SECONDS

    heartbeat.received()

    assert heartbeat.seconds == 0


async def test_what_the_keeper_slept_through_is_held_against_nobody() -> None:
    """A container that is paused for an hour wakes up with its workers alive, and kills none of them."""
    clock = ManualClock()
    heartbeat = Heartbeat(clock)
    await clock.advance(3600)

    assert heartbeat.check() == 2 * CHECK_SECONDS
