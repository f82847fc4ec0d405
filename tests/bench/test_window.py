import pytest

from bench.bank import Count
from bench.load import Load
from bench.talk import WrongAnswer
from bench.window import check

LOAD = Load(requests=10_000, per_second=5000.0)
BEFORE = Count(connections=100, requests=1000)


@pytest.mark.parametrize("requests", [11_000, 11_150])
def test_a_window_counts_if_the_bank_was_asked_once_a_request(requests: int) -> None:
    """Some more are those that were in flight at the end, and what verifies."""
    check("nginx", LOAD, BEFORE, Count(connections=164, requests=requests))


@pytest.mark.parametrize("requests", [10_999, 21_000])
def test_a_candidate_that_asks_the_bank_less_or_more_often_is_refused(requests: int) -> None:
    """Whoever answers from a store, or asks twice, does other work than the others."""
    with pytest.raises(WrongAnswer, match=f"nginx answered 10000 requests, but the bank was asked {requests - 1000}"):
        check("nginx", LOAD, BEFORE, Count(connections=164, requests=requests))


def test_a_candidate_that_connects_to_the_bank_for_each_request_is_refused() -> None:
    """Its figures would be those of handshakes."""
    with pytest.raises(WrongAnswer, match="opened 10000 connections"):
        check("naive", LOAD, BEFORE, Count(connections=10_100, requests=11_000))
