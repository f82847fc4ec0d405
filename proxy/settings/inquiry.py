"""`inquiry` of a rule: the GET that asks the bank whether it has a request, and how its answer is read."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from proxy.settings.addresses import segments
from proxy.settings.fields import Section, Text, is_token, unacceptable

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# Unreserved characters of RFC 3986 2.3, and those of a query that no server reads as a separator of parameters.
_PLAIN = re.compile(r"[A-Za-z0-9\-._~:@/,]*")
_LIKE = "write it like /payment/v2/payments?requestId={Request-Id}"


def _path(text: str) -> str:
    if not text:
        return text
    path, _, query = text.partition("?")
    if not segments(path) or "*" in path:
        raise unacceptable("the path is not made of whole segments of plain characters", _LIKE)
    pairs = [pair.partition("=") for pair in query.split("&")]
    whole = [_PLACEHOLDER.fullmatch(value) for _, _, value in pairs]
    if not any(whole):
        raise unacceptable("nothing of the request is in its query", _LIKE)
    for (name, _, value), placeholder in zip(pairs, whole, strict=True):
        if not name or not _PLAIN.fullmatch(name):
            raise unacceptable("a name in the query is empty or has other characters than plain ones", _LIKE)
        if not (is_token(placeholder[1]) if placeholder else _PLAIN.fullmatch(value)):
            raise unacceptable("a value in the query is neither plain text nor one header's name in braces", _LIKE)
    return text


def header_names(path: str) -> tuple[str, ...]:
    """Return the names of headers that stand in braces in the *path* of an inquiry."""
    return tuple(_PLACEHOLDER.findall(path))


class InquiryAnswerSection(Section):
    """An answer of the bank to an inquiry; all that is written must hold."""

    status: Annotated[int, Field(ge=200, le=499)] = Field(description="status of the answer, 200 to 499")
    member: Text = Field(
        "", description="member of the JSON answer, like payments: not empty for found, there and empty for not_found"
    )
    body: Text = Field("", description="text among the first 64 KiB of the answer's body; empty: any")


class InquirySection(Section):
    """How to ask the bank whether it has a request whose outcome is unknown."""

    path: Annotated[Text, AfterValidator(_path)] = Field(
        "", description="path and query of a GET; a header's name in braces stands for the value that the log keeps"
    )
    found: InquiryAnswerSection = Field(
        InquiryAnswerSection(status=200), description="the answer that means: the bank has it"
    )
    not_found: InquiryAnswerSection = Field(
        InquiryAnswerSection(status=404),
        description="the answer that means: the bank does not have it; needs member or body",
    )
    automatic: bool = Field(
        default=False, description="payproxy asks by itself about each new request of unknown outcome"
    )
