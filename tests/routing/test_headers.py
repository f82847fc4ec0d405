import pytest

from proxy.routing.headers import HeaderLines


def test_names_are_remembered_in_bounds() -> None:
    """Callers choose them, so that they must not fill the memory."""
    lines = HeaderLines()
    for number in range(3000):
        lines.read(b"X-%d: a" % number)
    lines.read(b"X" * 1000 + b": a")
    assert len(lines._names) <= 1024
    assert max(map(len, lines._names)) < 1000


def test_lines_are_remembered_in_bounds() -> None:
    """Callers choose them too, and some are long."""
    lines = HeaderLines()
    for number in range(3000):
        lines.read(b"X-A: %d" % number)
        assert len(lines._lines) <= 1024
    lines.read(b"X-A: " + b"a" * 1000)
    assert lines._lines
    assert max(map(len, lines._lines)) <= 128


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization", b"Proxy-Authorization", b"X-Payproxy-Key", b"X-Api-Key", b"apikey", b"X_Auth_Token",
        b"Cookie", b"X-Client-Secret", b"X-Amz-Security-Token", b"X-JPM-Signature", b"Password", b"X-AUTHENTICATION",
    ],
)  # fmt: skip
def test_lines_that_may_hold_a_secret_are_not_remembered(name: bytes) -> None:
    """Their names are; the values are gone with the request."""
    lines = HeaderLines()
    for spelling in (name, name.lower(), name.upper()):
        assert lines.read(spelling + b": canary").value == b"canary"
    lines.read(b"Accept: */*")
    assert list(lines._lines) == [b"Accept: */*"]
