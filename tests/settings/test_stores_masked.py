from pathlib import Path

import pytest

from proxy.settings.stores import DATABASE, StoreUrl, UrlUnusable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rediss://:canary@h/1", "rediss://:***@h/1"),
        ("rediss://user:can@ary@h", "rediss://user:***@h"),
        ("postgresql://u@h/n?password=canary&a=b", "postgresql://u@h/n?password=***&a=b"),
        ("rediss://h:6379", "rediss://h:6379"),
    ],
)
def test_a_password_is_not_shown(text: str, shown: str) -> None:
    """Neither as text nor in a repr; only `reveal` gives it."""
    url = StoreUrl(text)

    assert (str(url), repr(url), f"{url}") == (shown, repr(shown), shown)
    assert url.reveal() == text
    assert url.has_password == (text != shown)


def test_urls_are_compared_whole() -> None:
    """Two that look alike may have different passwords."""
    one, other = StoreUrl("rediss://:a@h"), StoreUrl("rediss://:b@h")

    assert str(one) == str(other)
    assert one != other
    assert one == StoreUrl("rediss://:a@h")
    assert len({one, other, StoreUrl("rediss://:a@h")}) == 2


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A folder, a device or a missing file is said, with its cause."""
    with pytest.raises(UrlUnusable, match="not a regular file"):
        DATABASE.read(tmp_path)
    with pytest.raises(UrlUnusable, match="not a regular file"):
        DATABASE.read(Path("/dev/null"))
    with pytest.raises(UrlUnusable, match="no such file"):
        DATABASE.read(tmp_path / "none")
