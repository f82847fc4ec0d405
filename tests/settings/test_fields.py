from pathlib import Path

import pytest

from proxy.settings.addresses import UrlParts, segments, url_parts
from tests.settings.support import load_text, one_finding, plain


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://api.payments.jpmorgan.com", UrlParts("https", "api.payments.jpmorgan.com", 443, "")),
        ("https://API.jpmorgan.com:8443/a/b/", UrlParts("https", "api.jpmorgan.com", 8443, "/a/b")),
        ("http://[::1]:8090/x", UrlParts("http", "::1", 8090, "/x")),
        ("http://127.0.0.1", UrlParts("http", "127.0.0.1", 80, "")),
    ],
)
def test_url_parts(url: str, parts: UrlParts) -> None:
    """Host, port and path come out in one form."""
    assert url_parts(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "api.jpmorgan.com",
            "ftp://x",
            "https://",
            "https:///x",
            "//x",
            "https://x:0",
            "https://x:65536",
            "https://x:",
        ),
        *(
            "https://user:canary@x",
            "https://x?",
            "https://x/?a=b",
            "https://x#",
            "https://x y",
            "https://x\\y",
            "https://é",
        ),
        *("https://[::1", "https://1.2.3", "https://x\n", "https://x/\t", "https://@x", "https://-x"),
    ],
)
def test_what_is_no_url(url: str) -> None:
    """A URL that could lead elsewhere than it seems is refused, and the refusal does not quote it."""
    with pytest.raises(ValueError, match=r"^(is|has) ") as caught:
        url_parts(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ()),
        ("/payment/v2", ("payment", "v2")),
        ("/a/*/b", ("a", "*", "b")),
        ("/.well-known", (".well-known",)),
        *(
            (path, None)
            for path in ("", "a", "/a/", "//a", "/a//b", "/../a", "/./a", "/a/..", "/a%2fb", "/a;b", "/a*", "/a b")
        ),
        *((path, None) for path in ("/a?b", "/a#b", "/a\\b", "/é", "/a\n")),
    ],
)
def test_segments(path: str, expected: tuple[str, ...] | None) -> None:
    """A path is whole segments that every server reads in one way, or nothing."""
    assert segments(path) == expected


@pytest.mark.parametrize(
    ("proxy", "what", "fix"),
    [
        ("proxy.corp:3128", "has no scheme", "write http:// before it"),
        ("https://proxy.corp:3128", "speaks plain HTTP", "write http:// as its scheme"),
        (
            "http://user:canary@proxy.corp:3128",
            "a user and a password is not supported",
            "name a proxy on this machine",
        ),
        ("http://proxy.corp:3128/x", "has a path", "like http://proxy.example:3128"),
        ("http://proxy.corp:99999", "is not a URL", "like http://proxy.example:3128"),
    ],
)
def test_an_egress_proxy(tmp_path: Path, proxy: str, what: str, fix: str) -> None:
    """What is wrong with it is said of it, and the advice leads to one that is right."""
    url = 'url = "https://api.payments.jpmorgan.com"'
    finding = one_finding(load_text(tmp_path, plain((url, f'{url}\negress_proxy = "{proxy}"'))))

    assert (what in finding.what, fix in finding.fix) == (True, True), finding
    assert "canary" not in str(finding)
