"""Strict parsing of token request forms (application/x-www-form-urlencoded), in the way that all servers agree on."""

import re
from urllib.parse import unquote_to_bytes

MOST_BYTES = 65536
_MEDIA_TYPE = "application/x-www-form-urlencoded"
_ENCODED = re.compile(rb"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")


class FormUnusable(ValueError):
    """The form is invalid or ambiguous; the text quotes nothing of it."""


def read_form(body: bytes, *, content_type: str) -> dict[str, str]:
    """Return the parameters of *body*; raises FormUnusable, also for a repeated one.

    Parameters without a value count as omitted (RFC 6749 3.1), empty pairs between two `&` are ignored.
    """
    if content_type.partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise FormUnusable(f"Content-Type must be {_MEDIA_TYPE}")
    if not _ENCODED.fullmatch(body):
        raise FormUnusable("the form has a character that must be percent-encoded")
    form: dict[str, str] = {}
    for pair in filter(None, body.split(b"&")):
        name, equals, value = map(_decoded, pair.partition(b"="))
        if not equals:
            raise FormUnusable("a parameter has no =")
        if name in form:
            raise FormUnusable("a parameter stands twice")
        form[name] = value
    return {name: value for name, value in form.items() if value}


def _decoded(part: bytes) -> str:
    try:
        return unquote_to_bytes(part.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise FormUnusable("the form is not UTF-8") from None
