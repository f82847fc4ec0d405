"""Refuses the broken request heads that aiohttp's parser takes, and a bank's own servers do not."""

import re

from proxy.simulator.received import RawHeaders

# uri-host [":" port] (RFC 9112 3.2), of a registered name only the characters that are in use.
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,5}))?")
# Origin-form (RFC 9112 3.2.1), or "*" for OPTIONS of the whole server.
_TARGET = re.compile(r"/[!-~]*|\*")


def head_fault(target: str, headers: RawHeaders) -> str:
    """Return what is wrong with a request's head, "" if nothing is; it repeats no value.

    A Host with more than a name or address and a port is a line whose end is missing.
    """
    if not _TARGET.fullmatch(target):
        return "the target is no path of plain ASCII (RFC 9112 3.2.1)"
    for name, value in headers:
        if name.lower() == b"host":
            match = _HOST.fullmatch(value)
            if match is None or int(match["port"] or 0) > 65535:
                return "Host is not a name or address with an optional port (RFC 9112 3.2)"
    return ""
