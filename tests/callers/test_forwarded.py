"""The caller's address behind load balancers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.forwarded import TrustedProxies
from proxy.errors import BadRequest

TRUSTED = TrustedProxies(("10.0.0.0/8", "fd00::/8"))

CASES = [
    ("1.1.1.1", "", "2.2.2.2", "1.1.1.1"),
    ("10.0.0.1", "", "", "10.0.0.1"),
    ("10.0.0.1", "", "2.2.2.2", "2.2.2.2"),
    ("10.0.0.1", "", "3.3.3.3, 2.2.2.2", "2.2.2.2"),
    ("10.0.0.1", "", "3.3.3.3, 2.2.2.2, 10.0.0.9", "2.2.2.2"),
    ("10.0.0.1", "", "10.0.0.7, 10.0.0.8", "10.0.0.7"),
    ("10.0.0.1", "", "2.2.2.2, garbage", "10.0.0.1"),
    ("10.0.0.1", "", "2.2.2.2,garbage , 10.0.0.9", "10.0.0.9"),
    ("10.0.0.1", "", "2.2.2.2:1234", "2.2.2.2"),
    ("10.0.0.1", "", "[2001:db8::1]:1234", "2001:db8::1"),
    ("10.0.0.1", "", "2001:db8::1", "2001:db8::1"),
    ("10.0.0.1", "for=2.2.2.2", "", "2.2.2.2"),
    ("10.0.0.1", 'for="[2001:db8::1]:80";proto=http, FOR=10.0.0.2', "", "2001:db8::1"),
    ("10.0.0.1", "for=_hidden", "", "10.0.0.1"),
    ("10.0.0.1", "for=unknown, for=10.0.0.3", "", "10.0.0.3"),
    ("10.0.0.1", "proto=http", "", "10.0.0.1"),
    ("10.0.0.1", "for=2.2.2.2", "2.2.2.2, 10.0.0.9", "2.2.2.2"),
    ("9.9.9.9", "for=2.2.2.2", "3.3.3.3", "9.9.9.9"),
    ("fd00::1", "", "2.2.2.2", "2.2.2.2"),
    ("unix", "", "2.2.2.2", "unix"),
]


@pytest.mark.parametrize(("peer", "forwarded", "x_forwarded_for", "expected"), CASES)
def test_the_nearest_that_is_not_trusted_is_the_caller(
    peer: str, forwarded: str, x_forwarded_for: str, expected: str
) -> None:
    """Read from the right; what a stranger says about himself is not believed."""
    assert TRUSTED.client_address(peer, forwarded, x_forwarded_for) == expected


@given(st.text(max_size=40), st.text(max_size=40))
def test_nothing_that_callers_write_breaks_it(forwarded: str, x_forwarded_for: str) -> None:
    """An untrusted peer is itself, whatever it writes."""
    assert TRUSTED.client_address("1.1.1.1", forwarded, x_forwarded_for) == "1.1.1.1"
    with contextlib.suppress(BadRequest):
        assert TRUSTED.client_address("10.0.0.1", forwarded, x_forwarded_for)


def test_two_headers_that_name_two_callers_are_refused() -> None:
    """A load balancer that sets X-Forwarded-For alone hands on the Forwarded that a caller made up."""
    with pytest.raises(BadRequest):
        TRUSTED.client_address("10.0.0.1", "for=10.1.1.1", "2.2.2.2")


def test_without_networks_nobody_is_trusted() -> None:
    """And it says so, which spares the look."""
    assert not TrustedProxies(())
    assert TRUSTED
