"""Encodings and formats of text and bytes that all packages share."""

import base64


def base64url(data: bytes) -> bytes:
    """Return *data* in base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def printable(text: str, limit: int | None = None, *, other: str = "?", keep: str = "") -> str:
    """Return the first *limit* characters of *text*, each control character but those in *keep* replaced by *other*.

    Text of callers, certificates and files must not add lines or control a terminal.
    """
    return "".join(one if one.isprintable() or one in keep else other for one in text[:limit])
