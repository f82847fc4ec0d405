from proxy.worker.lingering import Lingering


class Connection:
    """Ends as a connection does."""

    def __init__(self, lingering: Lingering) -> None:
        self.ended = False
        self._lingering = lingering

    def end_linger(self) -> None:
        """Note it."""
        self.ended = True
        self._lingering.discard(self)


def test_who_was_silent_longest_makes_room() -> None:
    """Not who came first: that one may still be sending."""
    lingering = Lingering(2)
    first, second, third = (Connection(lingering) for _ in range(3))
    for connection in (first, second, first, third):
        lingering.heard(connection)

    assert [connection.ended for connection in (first, second, third)] == [False, True, False]
    assert repr(lingering) == "<Lingering 2/2>"


def test_who_has_left_takes_no_room() -> None:
    """Nor does it matter whether it was there."""
    lingering = Lingering(1)
    gone, here = (Connection(lingering) for _ in range(2))
    lingering.heard(gone)
    lingering.discard(gone)
    lingering.discard(gone)
    lingering.heard(here)

    assert not gone.ended
    assert len(lingering) == 1
