import pytest

from proxy.settings.addresses import TcpAddress, UnixAddress, is_host, is_loopback, listen_address


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("0.0.0.0:443", "0.0.0.0", 443, False),
        ("[::1]:0", "::1", 0, True),
        ("[::]:65535", "::", 65535, False),
        ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, True),
        ("localhost:80", "localhost", 80, True),
        ("LOCALHOST:80", "LOCALHOST", 80, True),
        ("proxy.internal.example:80", "proxy.internal.example", 80, False),
    ],
)
def test_tcp_addresses(text: str, host: str, port: int, loopback: bool) -> None:  # noqa: FBT001 - a table's column
    """A host and a port are understood, and whether only this machine can connect, and printed as they were written."""
    address = listen_address(text)

    assert address == TcpAddress(host=host, port=port)
    assert address.loopback is loopback
    assert str(address) == text


def test_unix_addresses() -> None:
    """A Unix socket is reached from this machine only."""
    address = listen_address("unix:/run/payproxy/proxy.sock")

    assert address == UnixAddress(path="/run/payproxy/proxy.sock")
    assert address.loopback
    assert str(address) == "unix:/run/payproxy/proxy.sock"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "8080",
            ":8080",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "::1:80",
            "[::1]",
            "[]:80",
        ),
        *(
            "[127.0.0.1]:80",
            "1.2.3:80",
            "256.1.1.1:80",
            "http://x:80",
            "a b:80",
            "*:80",
            "x:80\n",
            "unix:",
            "unix:run/x",
        ),
        *("unix:/" + "x" * 200, "-x:80", "127.0.0.1:٨٠"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    """Anything that could be read in two ways, or in none, is refused."""
    with pytest.raises(ValueError, match="not "):
        listen_address(text)


@pytest.mark.parametrize(
    ("host", "expected"), [("a_b", True), ("a..b", False), ("a.", False), ("é", False), ("10.1", False)]
)
def test_hosts(host: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """A number that some read as an address is no host name."""
    assert is_host(host) is expected


@pytest.mark.parametrize("host", ["localhost.jpmorgan.com", "127.0.0.1.example", "10.0.0.1", "::2", "notlocalhost"])
def test_what_is_not_loopback(host: str) -> None:
    """A name that only looks like this machine's is another machine's."""
    assert not is_loopback(host)
