import socket
from pathlib import Path

import pytest

from proxy.keeper.sockets import ListenFailed, Sockets
from proxy.keeper.unix_socket import listened_on
from proxy.settings.addresses import UnixAddress


def test_only_a_living_process_listens(tmp_path: Path) -> None:
    """Not on what a killed one left behind, nor where nothing is."""
    path = tmp_path / "admin.sock"
    assert not listened_on(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert not listened_on(path)
        listener.listen(0)
        # Nobody takes connections: the queue fills up, and somebody listens all the same.
        assert [listened_on(path) for _ in range(4)] == [True] * 4
    assert path.exists()
    assert not listened_on(path)


def test_what_is_no_socket_is_named(tmp_path: Path) -> None:
    """It is never removed."""
    path = tmp_path / "admin.sock"
    path.touch()
    with pytest.raises(FileExistsError, match="not a socket: move it elsewhere"):
        listened_on(path)
    with pytest.raises(ListenFailed, match="not a socket: move it elsewhere"):
        Sockets(UnixAddress(path=str(path)), workers=1)
    assert path.is_file()


def test_callers_reach_a_socket_that_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    """And a living one keeps its place."""
    path = tmp_path / "callers.sock"
    address = UnixAddress(path=str(path))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    sockets = Sockets(address, workers=2)
    try:
        assert not listened_on(path)
        sockets.open(1)
        sockets.open(0)
        assert listened_on(path)
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(ListenFailed, match="in use"):
            Sockets(address, workers=1)
    finally:
        sockets.close()
    assert not path.exists()
