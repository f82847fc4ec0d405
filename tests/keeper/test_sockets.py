import socket
from collections import Counter

import pytest

from proxy.keeper.sockets import ListenFailed, Sockets, bound
from proxy.settings.addresses import TcpAddress


def _address(port: int = 0) -> TcpAddress:
    return TcpAddress(host="127.0.0.1", port=port)


def _port(sockets: Sockets) -> int:
    return int(sockets.addresses[0].rpartition(":")[2])


def _call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_nobody_waits_for_a_worker_that_can_not_serve_yet(workers: int) -> None:
    """Until the first worker is there callers are refused; then the address is open, and said to be."""
    sockets = Sockets(_address(), workers=workers)
    try:
        with pytest.raises(ConnectionRefusedError):
            _call(_port(sockets))
        assert not sockets.opened.is_set()

        sockets.open(workers - 1)

        _call(_port(sockets)).close()
        assert sockets.opened.is_set()
    finally:
        sockets.close()


def test_callers_come_to_workers_that_serve_and_to_no_other() -> None:
    """The kernel spreads connections over the sets that are open; one that is not gets none."""
    sockets = Sockets(_address(), workers=3)
    try:
        sockets.open(1)
        sockets.open(1)
        alone = _came(sockets, calls=20)
        sockets.open(2)
        # That all of 40 go to one of two happens once in 10^12.
        both = _came(sockets, calls=40)
    finally:
        sockets.close()

    assert alone == {1: 20}
    assert set(both) == {1, 2}
    assert both.total() == 40


@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [1, 2])
def test_a_second_instance_on_the_port_is_refused_at_once(first: int, second: int) -> None:
    """With several workers as with one: else both would share the callers."""
    sockets = Sockets(_address(), workers=first)
    try:
        for worker in range(first):
            sockets.open(worker)
        with pytest.raises(ListenFailed, match=r"server\.listen = .*in use"):
            Sockets(_address(_port(sockets)), workers=second)
    finally:
        sockets.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_of_two_that_start_together_one_is_refused(workers: int) -> None:
    """Neither listens when the other looks: whoever can serve first has the port, and keeps it."""
    one = Sockets(_address(), workers=2)
    other = Sockets(_address(_port(one)), workers=workers)
    try:
        one.open(0)
        with pytest.raises(ListenFailed, match="in use"):
            other.open(0)
        one.open(1)
        assert set(_came(one, calls=40)) == {0, 1}
    finally:
        one.close()
        other.close()


def test_a_port_is_free_again_while_old_connections_linger() -> None:
    """A restart does not wait for connections in TIME_WAIT."""
    sockets = Sockets(_address(), workers=2)
    port = _port(sockets)
    sockets.open(0)
    caller = _call(port)
    _take(sockets, 0)[0].close()
    caller.close()
    sockets.close()

    again = Sockets(_address(port), workers=2)

    again.open(0)
    _call(port).close()
    again.close()


def test_all_addresses_of_a_name_share_one_port() -> None:
    """Where the kernel chooses it for the first, the others follow."""
    group = bound("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in group}) == 1
    finally:
        for one in group:
            one.close()


def _came(sockets: Sockets, *, calls: int) -> Counter[int]:
    """Call so often, and return how many came to which worker."""
    callers = [_call(_port(sockets)) for _ in range(calls)]
    taken = {worker: _take(sockets, worker) for worker in range(sockets.number)}
    for one in [*callers, *(each for group in taken.values() for each in group)]:
        one.close()
    return Counter({worker: len(group) for worker, group in taken.items() if group})


def _take(sockets: Sockets, worker: int) -> list[socket.socket]:
    """Accept all who stand in the queue of *worker*."""
    taken = []
    for one in sockets._sets[worker]:
        one.settimeout(0)
        try:
            while True:
                taken.append(one.accept()[0])
        except OSError:  # nobody is left, or it does not listen
            pass
    return taken
