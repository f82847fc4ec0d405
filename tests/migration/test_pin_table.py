"""Retry pins in little memory."""

import hashlib
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.migration.pin import PIN_SECONDS, Reason, RetryPin
from proxy.migration.pin_table import SHARDS, PinTable
from proxy.migration.side import Side

NOW = 1_700_000_040.0
PINS = st.builds(
    RetryPin,
    st.sampled_from(Side),
    st.sampled_from(["bank", "other"]),
    st.integers(int(NOW) + 1, int(NOW) + 7200).map(float),
    st.sampled_from(["payments", ""]),
    st.sampled_from(Reason),
)
DIGESTS = st.integers(0, 40).map(lambda number: f"{number * 0x0FEDCBA987654321 % (1 << 64):016x}")


def all_of(table: PinTable) -> dict[str, RetryPin]:
    """Return all pins of *table*."""
    return {digest: pin for shard in range(SHARDS) for digest, pin in table.shard(shard)}


@given(st.lists(st.tuples(DIGESTS, PINS), max_size=80), st.integers(0, 7200))
def test_it_is_a_dictionary(puts: list[tuple[str, RetryPin]], later: int) -> None:
    """Of the pins that hold, whatever was put in whatever order, and forgets the others when told to."""
    table, expected = PinTable(), dict[str, RetryPin]()
    for digest, pin in puts:
        table.put(digest, pin)
        expected[digest] = pin
    now = NOW + later

    assert all_of(table) == expected
    assert len(table) == len(expected)
    held = {digest: pin for digest, pin in expected.items() if pin.until > now}
    assert {digest: table.get(digest, now) for digest in expected} == {digest: held.get(digest) for digest in expected}
    table.forget_ended(now)
    assert all_of(table) == held
    assert len(table) == len(held)


@settings(max_examples=50)
@given(st.lists(PINS, min_size=1, max_size=200), st.integers(1, 60))
def test_at_the_bound_only_unknown_ends_are_missed(pins: list[RetryPin], most: int) -> None:
    """There are never more; the last one is there, and what was given up of those that matter is said until its end."""
    table = PinTable(most=most)
    put = {f"{number:016x}": pin for number, pin in enumerate(pins)}
    for digest, pin in put.items():
        table.put(digest, pin)
        assert len(table) <= most + 1

    kept = all_of(table)
    assert len(kept) == len(table)
    gone = [pin for digest, pin in put.items() if digest not in kept and pin.reason is Reason.UNKNOWN]
    assert all(pin.until <= table.given_up_until for pin in gone)


def test_pins_are_counted_by_migration_and_side() -> None:
    """With the end of the last, to the minute; tries in flight by themselves."""
    table = PinTable()
    for number in range(10):
        side = Side.LEGACY if number % 2 else Side.MODERN
        reason = Reason.IN_FLIGHT if number > 7 else Reason.UNKNOWN
        table.put(f"{number:016x}", RetryPin(side, "bank", NOW + 60 * number, "payments", reason))
    table.put("f" * 16, RetryPin(Side.MODERN, "bank", NOW + 9999, "balances"))

    assert table.open_pins("payments", NOW + 100) == {"modern": (3, NOW + 360), "legacy": (3, NOW + 420)}
    assert table.open_pins("payments", NOW, in_flight=True) == {"modern": (1, NOW + 480), "legacy": (1, NOW + 540)}
    assert table.open_pins("other", NOW) == {}


def test_a_pin_takes_little_memory() -> None:
    """So little that two million of them stay below 60 MB in each process."""
    table = PinTable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(50_000):
            pin = RetryPin(Side.MODERN, "bank", NOW + PIN_SECONDS + number / 10, "payments")
            table.put(hashlib.sha256(b"%d" % number).hexdigest()[:16], pin)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # Empty arrays of 1024 parts take some 250 KB, which counts for nothing with two million.
    assert (used - 500_000) / 50_000 < 30
