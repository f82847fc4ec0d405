"""The request target as it was sent (RFC 9112 3.2): split and checked, never decoded or rewritten."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.errors import BadRequest, TargetTooLong

# RFC 9110 4.1 recommends at least 8000; the bank's longest documented query is far shorter.
MAX_TARGET_BYTES: Final = 16384

# Unreserved and sub-delims of RFC 3986, without ";" (which Tomcat cuts off): unambiguous.
_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()*+,=:@]+)*/?")
_ESCAPED_PATH: Final = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,=:@;]|%[0-9A-Fa-f]{2})+)*/?")
# Escapes that another server may decode to syntax: . / \ % ; and the control characters.
_FORBIDDEN_ESCAPE: Final = re.compile(r"%(?:2[eEfF5]|5[cC]|3[bB]|7[fF]|[01][0-9A-Fa-f])")
_UNRESERVED_ESCAPE: Final = re.compile(r"%(?:4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe]|3[0-9]|2[dD])")
_PARAMETERS: Final = re.compile(r";[^/]*")
_QUERY: Final = re.compile(r"(?:\?[!-\"$-~]*)?")
_ABSOLUTE: Final = re.compile(
    r"http://(?P<host>[A-Za-z0-9\-._]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?].*)?", re.ASCII
)


HIGHEST_PORT: Final = 65535


@dataclass(slots=True)
class Target:
    """A target that was checked to be unambiguous.

    *path* and *query* (with its "?", or empty) are the caller's bytes. *other_reading* is the path as seen by a server
    that decodes unreserved escapes and drops ;parameters; if it matches another rule, the request is refused. *host* is
    the lower-case name of an absolute-form target, an IPv6 address without brackets, else None.
    """

    path: str
    query: str
    other_reading: str
    host: str | None


def parse_target(raw: str) -> Target:
    """Parse *raw*; raises BadRequest (400) or TargetTooLong (414)."""
    if len(raw) > MAX_TARGET_BYTES:
        raise TargetTooLong(f"The request target is longer than {MAX_TARGET_BYTES} bytes.")
    host = None
    if not raw.startswith("/"):
        host, raw = _absolute(raw)
    path, mark, query = raw.partition("?")
    query = mark + query
    if not _QUERY.fullmatch(query):
        raise BadRequest("The query has a character that a URI can't have; percent-encode it.")
    if _PLAIN_PATH.fullmatch(path) and "/." not in path:
        return Target(path, query, path, host)
    return Target(path, query, _read_otherwise(path), host)


def _absolute(raw: str) -> tuple[str, str]:
    match = _ABSOLUTE.fullmatch(raw)
    if match is None or int(match["port"] or 0) > HIGHEST_PORT:
        raise BadRequest("The request target must start with a slash, or be http://HOST/... of a route's upstream.")
    rest = match["rest"] or "/"
    return match["host"].lower().strip("[]"), rest if rest.startswith("/") else "/" + rest


def _read_otherwise(path: str) -> str:
    if not _ESCAPED_PATH.fullmatch(path):
        raise BadRequest("The path has an empty segment or a character that is not allowed in a path.")
    if _FORBIDDEN_ESCAPE.search(path):
        raise BadRequest("The path escapes a character that servers read in different ways (. / \\ % ; or a control).")
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise BadRequest("The path's percent-encoding is not UTF-8.") from None
    other = _PARAMETERS.sub("", _UNRESERVED_ESCAPE.sub(lambda found: chr(int(found[0][1:], 16)), path))
    for segment in other.split("/"):
        if segment.replace("%20", "") in {".", ".."}:
            raise BadRequest("The path has a dot segment.")
    if "//" in other:
        raise BadRequest("The path has an empty segment.")
    return other
