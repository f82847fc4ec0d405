"""Types of settings' values; validation errors say what is wrong and how to fix it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from proxy.secret import Secret
from proxy.settings.addresses import is_host, listen_address, segments, url_parts
from proxy.settings.distinguished_name import canonical
from proxy.settings.scrypt import HashUnusable
from proxy.settings.scrypt import parse as parse_scrypt

NAME_PATTERN = r"^[a-z][a-z0-9_-]*$"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Methods that are never served (RFC 9110 9.3.6, 9.3.8).
REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


@dataclass(frozen=True, slots=True)
class FilePath:
    """Marks a string as a path; a relative one becomes absolute in `relative_to`."""


# BaseSettings passes no context on to validators.
_base: ContextVar[Path | None] = ContextVar("base", default=None)


@contextmanager
def relative_to(base: Path) -> Iterator[None]:
    """Make relative paths that are validated inside absolute, from *base*."""
    token = _base.set(base)
    try:
        yield
    finally:
        _base.reset(token)


def unacceptable(what: str, fix: str) -> PydanticCustomError:
    """Return a validation error; neither text may quote the value."""
    return PydanticCustomError("unacceptable", "{what}; {fix}", {"what": what, "fix": fix})


def is_token(text: str) -> bool:
    """Return whether *text* can be the name of a header or of a method (RFC 9110 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def _checked(holds: Callable[[str], object], what: str, fix: str) -> AfterValidator:
    def check(text: str) -> str:
        if not holds(text):
            raise unacceptable(what, fix)
        return text

    return AfterValidator(check)


def _url(text: str) -> str:
    if text:
        try:
            url_parts(text)
        except ValueError as error:
            raise unacceptable(f"the URL {error}", "write it as https://HOST/PATH") from None
    return text


def _base_url(text: str) -> str:
    if not text:
        raise unacceptable("is empty", "write it as https://HOST or https://HOST/PREFIX")
    path = url_parts(_url(text)).path
    if path and (segments(path) is None or "*" in path):
        raise unacceptable(
            "the path is not made of whole, plain segments", "write it as https://HOST or https://HOST/PREFIX"
        )
    return text


def _egress_proxy(text: str) -> str:
    if not text:
        return text
    scheme, there, authority = text.partition("://")
    if not there:
        raise unacceptable("the egress proxy has no scheme", f"write http:// before it, {_LIKE_A_PROXY}")
    if scheme.lower() != "http":
        raise unacceptable(
            "payproxy speaks plain HTTP with the egress proxy (CONNECT); TLS to the bank goes through it end to end",
            f"write http:// as its scheme, {_LIKE_A_PROXY}",
        )
    if "@" in authority:
        raise unacceptable(
            "a proxy that requires a user and a password is not supported",
            "have it admit this machine by its address, or name a proxy on this machine that adds the password; and "
            "change the password if others have seen it here",
        )
    try:
        path = url_parts(text).path
    except ValueError as error:
        raise unacceptable(f"the egress proxy {error}", f"write it {_LIKE_A_PROXY}") from None
    if path:
        raise unacceptable("the egress proxy has a path", f"write it {_LIKE_A_PROXY}")
    return text


def _listen(text: str) -> str:
    try:
        listen_address(text)
    except ValueError as error:
        raise unacceptable(
            f"the address is {error}", "write it like 127.0.0.1:8080, [::1]:8080 or unix:/run/payproxy.sock"
        ) from None
    return text


def _optional_listen(text: str) -> str:
    return _listen(text) if text else text


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError:
        pass
    else:
        return text
    try:
        network = ip_interface(text).network
    except ValueError:
        raise unacceptable("a network is not written as ADDRESS/BITS", "write it like 10.20.0.0/16") from None
    raise unacceptable("a network has bits set behind its prefix", f"write it as {network}")


def _method(text: str) -> str:
    if not _TOKEN.fullmatch(text) or text != text.upper():
        raise unacceptable("a method is not written in capital letters", 'write it like "POST"')
    if text in REFUSED_METHODS:
        raise unacceptable("CONNECT and TRACE are always refused", "remove it from the list")
    return text


def _path(text: str) -> str:
    if "-----BEGIN" in text:  # must not be treated as a path, which messages quote
        raise unacceptable(
            "the value is a key or certificate, not the name of its file", "write it to a file (mode 0600)"
        )
    if not text.isprintable():
        raise unacceptable("has a line break or a control character", "write the path of a file")
    base = _base.get()
    return str(base / text) if text and base is not None else text


def _subject(text: str) -> str:
    if not text:
        return text
    try:
        return canonical(text)
    except ValueError as error:
        raise unacceptable(
            f"the subject {error if not isinstance(error, UnicodeDecodeError) else 'is not UTF-8'}",
            r"write it like 'CN=erp,O=Acme\, Inc.,C=US' (RFC 4514), the most specific part first, a backslash before "
            r'each of " + , ; < > \ in a value',
        ) from None


def _secret(value: Any) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value:
        raise unacceptable("the value must be a string that is not empty", "write the secret as text")
    return Secret(value)


def _scrypt_hash(value: Any) -> Secret:
    secret = _secret(value)
    try:
        parse_scrypt(secret.reveal())
    except HashUnusable as error:
        raise unacceptable(
            str(error),
            "write what `payproxy admin hash-password NAME` prints, and choose another password if this was one",
        ) from None
    return secret


def _masked(_: Secret) -> str:
    return "***"


_LIKE_A_PROXY = "like http://proxy.example:3128"
_IS_SEGMENTS = "is not made of whole segments of plain characters"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Text = Annotated[str, _checked(str.isprintable, "has a line break or a control character", "write it on one line")]
InstanceName = Annotated[Text, Field(max_length=253)]
RequiredText = Annotated[Text, _checked(bool, "is empty", "write its value")]
RouteName = Annotated[
    str,
    _checked(
        _ROUTE_NAME.fullmatch, "the name has other characters than letters, digits, . _ and -", "choose a plain name"
    ),
]
Subject = Annotated[Text, AfterValidator(_subject)]
PathText = Annotated[str, FilePath(), AfterValidator(_path)]
Url = Annotated[str, AfterValidator(_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
EgressProxy = Annotated[str, AfterValidator(_egress_proxy)]
Listen = Annotated[str, AfterValidator(_listen)]
OptionalListen = Annotated[str, AfterValidator(_optional_listen)]
RoutePath = Annotated[
    str,
    _checked(
        lambda text: segments(text) is not None,
        f"the path {_IS_SEGMENTS}",
        "write it like /payment/v2, without a final slash or %",
    ),
]
PlainPath = Annotated[
    str,
    _checked(
        lambda text: segments(text) and "*" not in text,
        f"the path {_IS_SEGMENTS}",
        "write it like /oauth2/token, without a final slash, * or %",
    ),
]
StripPrefix = Annotated[
    str,
    _checked(
        lambda text: not text or segments(text),
        f"the prefix {_IS_SEGMENTS}",
        "write it like /bank, without a final slash",
    ),
]
HostName = Annotated[
    str,
    _checked(lambda text: is_host(text.strip("[]")), "a Host name is not valid", "write names without scheme or port"),
]
HeaderName = Annotated[str, _checked(_TOKEN.fullmatch, "a header name is not valid", "write names like request-id")]
Method = Annotated[str, AfterValidator(_method)]
Network = Annotated[str, AfterValidator(_network)]
KeyHash = Annotated[
    str,
    _checked(
        _SHA256.fullmatch,
        "is not a SHA-256 of 64 hexadecimal digits",
        "make key and hash with `payproxy callers new NAME`",
    ),
]
SecretText = Annotated[
    Secret, PlainValidator(_secret), PlainSerializer(_masked), WithJsonSchema({"type": "string", "minLength": 1})
]
ScryptHash = Annotated[
    Secret, PlainValidator(_scrypt_hash), PlainSerializer(_masked), WithJsonSchema({"type": "string", "minLength": 1})
]

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=0)]

# TOML has only arrays; tuples keep sections immutable, so only the outer type is validated leniently.
Names = Annotated[tuple[RequiredText, ...], Strict(strict=False)]
PathTexts = Annotated[tuple[PathText, ...], Strict(strict=False)]
HostNames = Annotated[tuple[HostName, ...], Strict(strict=False)]
HeaderNames = Annotated[tuple[HeaderName, ...], Strict(strict=False)]
PlainPaths = Annotated[tuple[PlainPath, ...], Strict(strict=False)]
Methods = Annotated[tuple[Method, ...], Strict(strict=False)]
Networks = Annotated[tuple[Network, ...], Strict(strict=False)]
KeyHashes = Annotated[tuple[KeyHash, ...], Strict(strict=False)]
