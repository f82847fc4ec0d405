from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.entropy import SystemEntropy
from proxy.stores.encryption import Seal, SealBroken, read_key

OLD, NEW = b"0" * 32, b"1" * 32


def seal(*keys: bytes, environment: str = "production") -> Seal:
    """Return a seal of these keys."""
    return Seal(keys, environment=environment, entropy=SystemEntropy())


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_what_is_sealed_is_opened_and_not_seen(content: bytes) -> None:
    """Two sealings of one value differ, so that equal bytes are one write."""
    first, second = seal(NEW).close("pins", content), seal(NEW).close("pins", content)

    assert first != second
    assert seal(NEW).open("pins", first) == content
    if len(content) > 3:
        assert content not in first


@pytest.mark.parametrize(
    ("name", "opener"),
    [
        ("migrations", seal(NEW)),
        ("pins", seal(NEW, environment="client-testing")),
        ("pins", seal(OLD)),
        ("pins", seal()),
    ],
    ids=["another place", "another environment", "another key", "no key"],
)
def test_it_opens_only_where_it_belongs(name: str, opener: Seal) -> None:
    """A value put in the place of another is worth nothing."""
    with pytest.raises(SealBroken):
        opener.open(name, seal(NEW).close("pins", b"content"))


@given(st.integers(0, 35), st.integers(1, 255))
@settings(max_examples=50)
def test_no_bit_can_be_changed(place: int, mask: int) -> None:
    """Of nonce, value or tag."""
    sealed = bytearray(seal(NEW).close("pins", b"12345678"))
    sealed[place] ^= mask

    with pytest.raises(SealBroken):
        seal(NEW).open("pins", bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"x", b"x" * 12, b"x" * 28])
def test_what_is_too_short_is_broken(sealed: bytes) -> None:
    """Whatever stands there."""
    with pytest.raises(SealBroken):
        seal(NEW).open("pins", sealed)


def test_an_old_key_opens_while_it_is_listed() -> None:
    """New values are sealed with the first."""
    assert seal(NEW, OLD).open("pins", seal(OLD).close("pins", b"content")) == b"content"
    with pytest.raises(SealBroken):
        seal(OLD).open("pins", seal(NEW, OLD).close("pins", b"content"))


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [(b"short\n", 0o600, "must hold"), (b"x" * 5000, 0o600, "must hold"), (b"x" * 32, 0o640, "group or others")],
    ids=["short", "long", "open"],
)
def test_a_key_file_must_be_private_and_long_enough(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    """The message names no part of it."""
    path = tmp_path / "state.key"
    path.write_bytes(content)
    path.chmod(mode)

    with pytest.raises(OSError, match=why) as caught:
        read_key(path)
    assert caught.value.filename == str(path)


def test_a_key_is_the_files_content_without_a_line_feed(tmp_path: Path) -> None:
    """As `openssl rand -hex 32 > state.key` writes it."""
    path = tmp_path / "state.key"
    path.touch(mode=0o600)
    path.write_bytes(b"ab" * 32 + b"\n")

    assert read_key(path) == b"ab" * 32
