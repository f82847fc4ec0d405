from proxy.worker.patience import PATIENCE


def test_no_gap_in_a_body_is_longer_than_an_exchange_may_last() -> None:
    """A caller that stalls is told so when its time is over; a longer time for all does not lengthen the gap."""
    assert PATIENCE.within(7.0).body_gap == 7.0
    assert PATIENCE.within(200.0) == PATIENCE
