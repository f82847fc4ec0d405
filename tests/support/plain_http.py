"""HTTP/1.1 read by another mind: as lenient as one reading allows, slow, and without a line of the product's."""

import re
from dataclasses import dataclass

_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(;[^\r\n]*)?")


class NotWhole(Exception):
    """What follows is no message, or not all of one."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message that came whole, and the bytes after it."""

    first: bytes
    lines: tuple[tuple[bytes, bytes], ...]
    body: bytes
    rest: bytes


def read(data: bytes, *, bodiless: bool = False) -> Message:
    """Return the message at the beginning of *data*; raises NotWhole."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise NotWhole
    first, *lines = head.split(b"\r\n")
    fields = tuple(_field(line) for line in lines)
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise NotWhole
    if bodiless or not lengths + codings:
        return Message(first=first, lines=fields, body=b"", rest=rest)
    if codings:
        if codings[0].lower() != b"chunked":
            raise NotWhole
        body, rest = _chunks(rest)
    else:
        if not re.fullmatch(rb"[0-9]+", lengths[0]) or int(lengths[0]) > len(rest):
            raise NotWhole
        body, rest = rest[: int(lengths[0])], rest[int(lengths[0]) :]
    return Message(first=first, lines=fields, body=body, rest=rest)


def requests(data: bytes) -> list[Message]:
    """Return the requests that *data* begins with, up to the first that is none."""
    found = []
    try:
        while data:
            while data.startswith(b"\r\n"):
                data = data[2:]
            message = read(data)
            if len(message.first.split(b" ")) != 3:
                break
            found.append(message)
            data = message.rest
    except NotWhole:
        pass
    return found


def answer(data: bytes) -> tuple[int, Message]:
    """Return status and message of the first answer in *data* that is no 1xx; raises NotWhole."""
    while True:
        match = re.match(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n", data)
        if match is None:
            raise NotWhole
        status = int(match[1])
        message = read(data, bodiless=status < 200 or status in {204, 304})
        if status >= 200:
            return status, message
        data = message.rest


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon:
        raise NotWhole
    return name, value.strip(b" \t")


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        match = _CHUNK.fullmatch(line)
        if not end or match is None:
            raise NotWhole
        size = int(match[1], 16)
        if not size:
            break
        if data[size : size + 2] != b"\r\n":
            raise NotWhole
        body, data = body + data[:size], data[size + 2 :]
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            raise NotWhole
        if not line:
            return body, data
