"""Forms of token requests are read in one way or not at all."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.form import FormUnusable, read_form

FORM = "application/x-www-form-urlencoded"


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.text(min_size=1, max_size=20), max_size=8))
def test_what_a_client_encodes_is_read(form: dict[str, str]) -> None:
    """Whatever stands in it."""
    assert read_form(urlencode(form).encode(), content_type=FORM) == form


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&&b=2&", {"a": "1", "b": "2"}),
        (b"a=&b=2", {"b": "2"}),
        (b"a=b+c%20d%2Be", {"a": "b c d+e"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"", {}),
    ],
)
def test_parameters_without_value_are_left_out(body: bytes, form: dict[str, str]) -> None:
    """RFC 6749 3.1."""
    assert read_form(body, content_type=FORM) == form


@pytest.mark.parametrize("kind", [FORM + "; charset=UTF-8", "Application/X-WWW-Form-URLencoded", FORM + ";x"])
def test_the_media_type_may_have_parameters(kind: str) -> None:
    """As old clients send it."""
    assert read_form(b"a=1", content_type=kind) == {"a": "1"}


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain", "multipart/form-data; boundary=x", FORM + "x"])
def test_another_media_type_is_refused(kind: str) -> None:
    """A JSON body is no form."""
    with pytest.raises(FormUnusable, match="Content-Type"):
        read_form(b"a=1", content_type=kind)


@pytest.mark.parametrize(
    "body",
    [b"a=1&a=2", b"a=1&a=", b"a=&a=", b"a=1&%61=2", b"a", b"a=1&b", b"a=%zz", b"a=%4", b"a=\xe9", b"a=%ff", b"a=1\r\n"],
)
def test_what_servers_read_in_different_ways_is_refused(body: bytes) -> None:
    """A parameter that stands twice, however spelt, broken escapes, raw bytes; nothing of it is quoted."""
    with pytest.raises(FormUnusable) as caught:
        read_form(body, content_type=FORM)
    assert "61" not in str(caught.value)
