import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.keeper import passed_sockets
from proxy.keeper.passed_sockets import PassedSockets, PassedSocketUnfit
from proxy.keeper.sockets import Sockets
from proxy.settings.addresses import TcpAddress, UnixAddress, listen_address

ANY_PORT = TcpAddress(host="127.0.0.1", port=0)
FIRST = 900  # where the tests pass descriptors; systemd begins at 3


@contextmanager
def _passed(monkeypatch: pytest.MonkeyPatch, *sockets: socket.socket, names: str = "") -> Iterator[PassedSockets]:
    """Pass *sockets* with consecutive descriptors, as systemd does, though not from 3 on: that is the test's own."""
    for number, one in enumerate(sockets):
        os.dup2(one.fileno(), FIRST + number)
        one.close()
    monkeypatch.setattr(passed_sockets, "_FIRST_DESCRIPTOR", FIRST)
    environ = {"LISTEN_PID": "4711", "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
    found = PassedSockets.of(environ, pid=4711)
    try:
        yield found
    finally:
        for left in found._left:
            left.socket.close()


def _listening(host: str = "127.0.0.1", *, both: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    one.bind((host, 0))
    one.listen()
    return one


def _address(one: socket.socket) -> TcpAddress:
    host, port = one.getsockname()[:2]
    return TcpAddress(host=host, port=port)


def test_a_socket_is_for_the_listener_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without names, or with systemd's own (the unit's name): by address, whatever the order."""
    admin, traffic = _listening(), _listening()
    addresses = _address(traffic), _address(admin)
    with _passed(monkeypatch, admin, traffic, names="payproxy.socket:payproxy.socket") as passed:
        taken = [passed.take(name, address) for name, address in zip(("traffic", "admin"), addresses, strict=True)]
        passed.refuse_rest()

    assert [[_address(one) for one in each] for each in taken] == [[addresses[0]], [addresses[1]]]
    for [one] in taken:
        assert not one.get_inheritable()
        one.close()


def test_what_is_passed_to_another_process_is_not_ours() -> None:
    """A process that was started by one to which sockets were passed has the variables, and not the sockets."""
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "traffic"}
    assert PassedSockets.of(environ, pid=4711).take("traffic", ANY_PORT) == []
    assert PassedSockets.of({}, pid=4711).take("traffic", ANY_PORT) == []


def test_a_unix_socket_is_taken_by_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path stays when the instance ends: the next one gets the same socket."""
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    address = UnixAddress(path=str(path))
    with _passed(monkeypatch, listener) as passed:
        taken = passed.take("traffic", address)
        sockets = Sockets(address, workers=2, passed=taken)
        sockets.open(0)

    assert sockets.addresses == (f"unix:{path}",)
    sockets.close()
    assert path.exists()


def _take_all(passed: PassedSockets, name: str, address: TcpAddress | UnixAddress | None) -> None:
    assert passed.take(name, address) == []
    passed.refuse_rest()


@pytest.mark.parametrize(
    ("name", "configured", "words"),
    [
        ("traffic", "127.0.0.1:1", r"\(FileDescriptorName=traffic\), .* has server\.listen = '127\.0\.0\.1:1': make "),
        ("admin", "127.0.0.1:1", r"\(FileDescriptorName=admin\), .* has admin\.listen = '127\.0\.0\.1:1': make "),
        ("admin", "", r"admin\.listen = ''"),
        ("payproxy.socket", "127.0.0.1:1", "the configuration has no listener there: make ListenStream="),
    ],
)
def test_an_address_that_is_not_configured_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, configured: str, words: str
) -> None:
    """Who wrote 127.0.0.1 needs no [callers]; a socket on all addresses would let everybody in."""
    address = listen_address(configured) if configured else None
    with (
        _passed(monkeypatch, _listening("0.0.0.0"), names=name) as passed,
        pytest.raises(PassedSocketUnfit, match=words),
    ):
        _take_all(passed, "admin" if name == "admin" else "traffic", address)


def test_a_socket_for_both_protocols_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd's ListenStream=8443 makes one; ours at [::] takes IPv6 only, as the rules about callers assume."""
    listener = _listening("::", both=True)
    address = _address(listener)
    words = r"takes IPv4 connections too.*BindIPv6Only=ipv6-only, or ListenStream=0\.0\.0\.0:\d+ "
    with _passed(monkeypatch, listener) as passed:
        assert passed.take("traffic", address) == []
        with pytest.raises(PassedSocketUnfit, match=words):
            passed.refuse_rest()


def test_a_socket_for_ipv6_alone_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With BindIPv6Only=ipv6-only it is what payproxy itself would open."""
    listener = _listening("::")
    address = _address(listener)
    with _passed(monkeypatch, listener) as passed:
        [one] = passed.take("traffic", address)
        one.close()


@pytest.mark.parametrize("kind", ["connected", "datagram", "not listening", "a file"])
def test_what_does_not_listen_is_an_error(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As with Accept=yes, ListenDatagram= or a FIFO."""
    pair = socket.socketpair()
    ends = {"connected": pair[0], "datagram": socket.socket(type=socket.SOCK_DGRAM), "not listening": socket.socket()}
    words = "is no socket" if kind == "a file" else "does not listen: write ListenStream= and Accept=no"
    monkeypatch.setattr(passed_sockets, "_FIRST_DESCRIPTOR", FIRST)
    with Path(os.devnull).open() as file:
        os.dup2(ends[kind].fileno() if kind in ends else file.fileno(), FIRST)
    for one in (*pair, *ends.values()):
        one.close()

    with pytest.raises(PassedSocketUnfit, match=words):
        PassedSockets.of({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, pid=1)

    with contextlib.suppress(OSError):
        os.close(FIRST)


def test_a_number_that_is_none_is_an_error() -> None:
    """Nothing is guessed."""
    with pytest.raises(PassedSocketUnfit, match="LISTEN_FDS is not a number"):
        PassedSockets.of({"LISTEN_PID": "1", "LISTEN_FDS": "two"}, pid=1)


def test_a_number_larger_than_any_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first descriptor that is not there is named."""
    monkeypatch.setattr(passed_sockets, "_FIRST_DESCRIPTOR", FIRST)
    with pytest.raises(PassedSocketUnfit, match=f"descriptor {FIRST}, passed in LISTEN_FDS, is no socket"):
        PassedSockets.of({"LISTEN_PID": "1", "LISTEN_FDS": "99999999999"}, pid=1)


def test_all_workers_share_what_was_passed() -> None:
    """They listen already; nothing is bound, and they outlive the instance."""
    listener = _listening()
    sockets = Sockets(_address(listener), workers=3, passed=[listener])
    try:
        assert sockets.outlive_us
        assert [sockets.descriptors(worker) for worker in range(3)] == [[listener.fileno()]] * 3
        sockets.open(1)
        assert sockets.opened.is_set()
        assert sockets.addresses == (str(_address(listener)),)
    finally:
        sockets.close()
