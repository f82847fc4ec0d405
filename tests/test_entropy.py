"""Identifiers: unique, sortable, and of the form that RFC 9562 gives them."""

from uuid import RFC_4122, UUID  # noqa: TID251 - to read ids back, not to make them

from proxy.entropy import SystemEntropy, Uuid7s, uuid7

NOW = 1_800_000_000.1234


def test_ids_are_version_7_and_carry_their_time() -> None:
    """RFC 9562 5.7, one by one and from a source that draws ahead."""
    source = Uuid7s(SystemEntropy())
    for text in (uuid7(SystemEntropy(), NOW), *(source.next(NOW) for _ in range(200))):
        value = UUID(text)
        assert str(value) == text
        assert (value.version, value.variant) == (7, RFC_4122)
        assert value.int >> 80 == int(NOW * 1000)


def test_what_is_drawn_at_once_serves_once() -> None:
    """No two ids share a tail, across several draws of chance, and each keeps 74 bits of it."""
    source = Uuid7s(SystemEntropy(), drawn=4)
    tails = [source.next(NOW)[14:] for _ in range(1000)]

    assert len(set(tails)) == len(tails)


def test_chance_is_drawn_for_many_at_once() -> None:
    """Which bytes come is the operating system's, how often it is asked is ours; ids follow the time all the same."""

    class Counted:
        calls = 0

        def token_bytes(self, size: int) -> bytes:
            Counted.calls += 1
            return bytes(range(size % 256)).ljust(size, b"\xff")

        def uniform(self, low: float, high: float) -> float:
            return (low + high) / 2

    source = Uuid7s(Counted(), drawn=64)
    ids = [source.next(NOW + number / 1000) for number in range(65)]

    assert Counted.calls == 2
    assert ids == sorted(ids)
