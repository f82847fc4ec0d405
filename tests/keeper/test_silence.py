from proxy.keeper.silence import LOOK_SECONDS, Silence
from tests.support.clock import ManualClock


async def test_silence_lasts_until_something_is_heard() -> None:
    """Each look adds what has passed since the last one."""
    clock = ManualClock()
    silence = Silence(clock)
    for _ in range(4):
        await clock.advance(LOOK_SECONDS)
        silence.look()
    assert silence.seconds == 4 * LOOK_SECONDS

    silence.heard()

    assert silence.seconds == 0


async def test_what_the_keeper_slept_through_is_held_against_nobody() -> None:
    """A container that is paused for an hour wakes up with its workers alive, and kills none of them."""
    clock = ManualClock()
    silence = Silence(clock)
    await clock.advance(3600)

    assert silence.look() == 2 * LOOK_SECONDS
