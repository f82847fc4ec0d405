"""Types of the values that one key has, beside those of many keys in `fields.py`."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from proxy.settings.addresses import segments
from proxy.settings.fields import Text, is_token, unacceptable
from proxy.settings.inquiry import PLACEHOLDER
from proxy.settings.migration import STICKY_HEADER
from proxy.settings.pkcs11_uri import Pkcs11Uri, Pkcs11UriInvalid
from proxy.settings.stores import DATABASE, REDIS, StoreUrl, UrlForm

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 9110 8.3.1, with plain parameters like charset=utf-8.
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}(; ?{_NAME}={_NAME})*")

# Unreserved characters of RFC 3986 2.3, and those of a query that no server reads as a separator of parameters.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:@/,]*")
_LIKE = "write it like /payment/v2/payments?requestId={Request-Id}"

# Headers that do not identify a caller over time, or are removed before the choice of a side.
_NOT_STICKY = frozenset(
    {"authorization", "proxy-authorization", "x-payproxy-key", "host", "connection", "content-length", "expect"}
)


def _media_type(text: str) -> str:
    if not _MEDIA_TYPE.fullmatch(text):
        raise unacceptable("is no media type (RFC 9110 8.3.1)", 'write it like "text/xml" or "application/jose"')
    return text


def _inquiry_path(text: str) -> str:
    if not text:
        return text
    path, _, query = text.partition("?")
    if not segments(path) or "*" in path:
        raise unacceptable("the path is not made of whole segments of plain characters", _LIKE)
    pairs = [pair.partition("=") for pair in query.split("&")]
    whole = [PLACEHOLDER.fullmatch(value) for _, _, value in pairs]
    if not any(whole):
        raise unacceptable("nothing of the request is in its query", _LIKE)
    for (name, _, value), placeholder in zip(pairs, whole, strict=True):
        if not name or not _PLAIN.fullmatch(name):
            raise unacceptable("a name in the query is empty or has other characters than plain ones", _LIKE)
        if not (is_token(placeholder[1]) if placeholder else _PLAIN.fullmatch(value)):
            raise unacceptable("a value in the query is neither plain text nor one header's name in braces", _LIKE)
    return text


def _sticky(text: str) -> str:
    if text in {"caller", "request"}:
        return text
    name = text.removeprefix(STICKY_HEADER)
    if name == text or not is_token(name):
        raise unacceptable("it is not a key to spread by", 'write "caller", "request" or "header:NAME"')
    if name.lower() in _NOT_STICKY:
        raise unacceptable(
            "callers can't be spread by this header", "name one by which the callers' requests belong together"
        )
    return text


def _pkcs11_uri(text: str) -> str:
    if text:
        try:
            Pkcs11Uri.parse(text)
        except Pkcs11UriInvalid as error:
            raise unacceptable(str(error), error.fix) from None
    return text


def _store_url(form: UrlForm) -> PlainValidator:
    def validate(value: Any) -> StoreUrl:
        """Return a setting's *value* as a URL; raise a validation error that shows no part of it."""
        if isinstance(value, StoreUrl):
            return value
        if not isinstance(value, str):
            raise unacceptable("the value must be a string", form.fix)
        if fault := form.fault(value):
            raise unacceptable(fault, form.fix)
        return StoreUrl(value)

    return PlainValidator(validate)


MediaType = Annotated[Text, AfterValidator(_media_type)]
InquiryPath = Annotated[Text, AfterValidator(_inquiry_path)]
Sticky = Annotated[str, AfterValidator(_sticky)]
Pkcs11Text = Annotated[Text, AfterValidator(_pkcs11_uri)]
DatabaseUrl = Annotated[StoreUrl, _store_url(DATABASE), PlainSerializer(str), WithJsonSchema({"type": "string"})]
RedisUrl = Annotated[StoreUrl, _store_url(REDIS), PlainSerializer(str), WithJsonSchema({"type": "string"})]

Workers = Annotated[int, Field(ge=0, le=256)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
RequestsPerSecond = Annotated[float, Field(ge=0, allow_inf_nan=False)]
InquiryStatus = Annotated[int, Field(ge=200, le=499)]
# Below 400 a second send would repeat a success, from 500 on a request that may have been executed.
RefusalStatus = Annotated[int, Field(ge=400, le=499)]
AssertionLifetime = Annotated[int, Field(ge=10, le=300)]
TokenLifetime = Annotated[int, Field(ge=60, le=86400)]
