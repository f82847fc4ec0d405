"""URLs of a Redis that sentinels watch."""

import pytest

from proxy.settings.sentinel import SentinelUrl
from proxy.settings.stores import REDIS, StoreUrl


def test_a_url_with_all_there_is() -> None:
    """Ports have a default, an IPv6 address its brackets, a password may be anything that is escaped."""
    assert SentinelUrl.of(
        "rediss+sentinel://me:p%40ss@a.example,b.example:1,[::1]:2/main/3?sentinel_password=x%26y"
    ) == (
        SentinelUrl(
            addresses=(("a.example", 26379), ("b.example", 1), ("::1", 2)),
            service="main",
            database=3,
            tls=True,
            username="me",
            password="p@ss",
            sentinel_password="x&y",
        )
    )
    assert SentinelUrl.of("redis://127.0.0.1:6379/0") is None


def test_no_password_is_in_its_text() -> None:
    """It may come into a message or a traceback."""
    url = SentinelUrl.of("redis+sentinel://:canary-1@127.0.0.1/main?sentinel_password=canary-2")

    assert url is not None
    assert (url.password, url.sentinel_password) == ("canary-1", "canary-2")
    assert "canary" not in f"{url} {url!r}"


@pytest.mark.parametrize(
    "text",
    [
        "rediss+sentinel://a.example",
        "rediss+sentinel://a.example/",
        "rediss+sentinel://a.example/main/x",
        "rediss+sentinel://a.example/main/1/2",
        "rediss+sentinel://a.example/main?password=x",
        "rediss+sentinel://a.example:0/main",
        "rediss+sentinel://a.example:99999/main",
        "rediss+sentinel://,a.example/main",
        "rediss+sentinel://:26379/main",
        "redis+sentinel://a.example/main",
        "http+sentinel://a.example/main",
        "rediss+sentinel://a b/main",
    ],
)
def test_what_is_none_is_said_without_showing_it(text: str) -> None:
    """Also one without TLS that leaves this machine."""
    fault = REDIS.fault(text)
    assert fault
    assert "a.example" not in fault


def test_no_password_is_shown() -> None:
    """Neither that of the Redis nor that of the sentinels."""
    url = StoreUrl("rediss+sentinel://me:open-sesame@a.example/main/0?sentinel_password=hush")
    assert str(url) == "rediss+sentinel://me:***@a.example/main/0?sentinel_password=***"
