"""Reads the multipart form of a document upload (RFC 7578), so that a changed byte is noticed."""

import json
import re
from dataclasses import dataclass

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))""", re.IGNORECASE)
_PARAMETER = re.compile(r'(name|filename)="([^"]*)"')


class UploadRefused(ValueError):
    """The upload is not what the API asks for; the text says what is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the form."""

    name: str
    filename: str | None
    content: bytes


def parts_of(content_type: str, body: bytes) -> dict[str, Part]:
    """Return the parts by name. Raises UploadRefused for anything that RFC 2046 5.1.1 doesn't allow."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None or not content_type.lower().startswith("multipart/form-data"):
        raise UploadRefused("Content-Type is not multipart/form-data with a boundary")
    mark = b"--" + (boundary[1] or boundary[2]).encode("latin-1")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise UploadRefused("the form does not end with its closing boundary")
    found: dict[str, Part] = {}
    for piece in pieces[1:-1]:
        part = _part(piece)
        if part.name in found:
            raise UploadRefused(f"part {part.name} stands twice")
        found[part.name] = part
    return found


def _part(piece: bytes) -> Part:
    head, gap, content = piece.partition(b"\r\n\r\n")
    if not gap or not head.startswith(b"\r\n"):
        raise UploadRefused("a part has no head")
    for line in head[2:].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-disposition" and value.strip().lower().startswith("form-data"):
            parameters = dict(_PARAMETER.findall(value))
            if "name" in parameters:
                return Part(name=parameters["name"], filename=parameters.get("filename"), content=content)
    raise UploadRefused("a part has no name")


def document_of(content_type: str, body: bytes) -> Part:
    """Return the `file` part of an upload whose `documentData` is a JSON object. Raises UploadRefused."""
    parts = parts_of(content_type, body)
    if set(parts) != {"file", "documentData"}:
        raise UploadRefused("the parts must be file and documentData")
    try:
        data = json.loads(parts["documentData"].content)
    except ValueError:
        raise UploadRefused("documentData is not JSON") from None
    if not isinstance(data, dict):
        raise UploadRefused("documentData is not a JSON object")
    if not parts["file"].filename:
        raise UploadRefused("file has no filename")
    return parts["file"]
