"""Targets have one reading, or none."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import BadRequest, TargetTooLong
from proxy.routing.target import MAX_TARGET_BYTES, Target, parse_target

pieces = st.lists(
    st.sampled_from(
        ["/", "a", "B", ".", "..", "%2e", "%2F", "%41", "%7e", "%25", "%c3%a9", "%ff", "%", ";", "=", "?", "#", " ",
        "\\", "~", "@"]
    ),
    max_size=10,
).map(lambda parts: "/" + "".join(parts))  # fmt: skip


def read(raw: str) -> Target | None:
    """Return the target, None where it is refused."""
    try:
        return parse_target(raw)
    except BadRequest:
        return None


@given(pieces)
@example("/a/..;/b")
@example("/a/%2e%2e/b")
def test_what_passes_is_the_callers_bytes(raw: str) -> None:
    """Path and query together are the target as it came."""
    target = read(raw)
    if target is not None:
        assert target.path + target.query == raw
        assert target.host is None


@given(pieces)
def test_what_passes_survives_a_server_that_decodes_and_normalises(raw: str) -> None:
    """Decoded once or twice, without parameters, dots resolved: it is the reading that was checked."""
    target = read(raw)
    if target is None:
        return
    for times in (1, 2):
        decoded = re.sub(r";[^/]*", "", target.path)
        for _ in range(times):
            decoded = unquote(decoded)
        segments = decoded.split("/")[1:]
        assert not {".", ".."} & {segment.strip() for segment in segments}
        assert "" not in segments[:-1]
        assert "\\" not in decoded
        assert decoded.isprintable() or not decoded.isascii()
        assert unquote(target.other_reading) == decoded


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(raw: str) -> None:
    """Nothing else is raised, whatever comes."""
    target = read(raw)
    assert target is None or (target.path + target.query).isascii()


@pytest.mark.parametrize(
    ("raw", "other"),
    [("/a/b", "/a/b"), ("/%61/b", "/a/b"), ("/a;x=1/b", "/a/b"), ("/a%20b", "/a%20b"), ("/%7E;", "/~"), ("/.a", "/.a")],
)
def test_the_other_reading_is_that_of_a_decoding_server(raw: str, other: str) -> None:
    """Escapes of unreserved characters decoded, parameters dropped."""
    assert parse_target(raw).other_reading == other


@pytest.mark.parametrize(
    ("raw", "host", "path", "query"),
    [
        ("http://API.example/a?b", "api.example", "/a", "?b"),
        ("http://api.example:8080/a", "api.example", "/a", ""),
        ("http://api.example", "api.example", "/", ""),
        ("http://api.example?b", "api.example", "/", "?b"),
        ("http://[::1]:80/a", "::1", "/a", ""),
    ],
)
def test_absolute_form_names_a_host(raw: str, host: str, path: str, query: str) -> None:
    """In lower case and without port; the rest is as in origin-form."""
    target = parse_target(raw)
    assert (target.host, target.path, target.query) == (host, path, query)


@pytest.mark.parametrize(
    "raw",
    ["", "*", "a", "https://a/", "http://", "http:///a", "http://a b/", "http://u@a/", "http://a:65536/", "//a/b", "?"],
)
def test_other_forms_are_refused(raw: str) -> None:
    """Neither asterisk nor authority nor anything without a path."""
    with pytest.raises(BadRequest):
        parse_target(raw)


def test_length_is_bounded() -> None:
    """The limit itself passes."""
    assert parse_target("/" + "a" * (MAX_TARGET_BYTES - 1)).query == ""
    with pytest.raises(TargetTooLong):
        parse_target("/" + "a" * MAX_TARGET_BYTES)
