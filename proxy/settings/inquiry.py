"""`inquiry` of a rule: the GET that asks the bank whether it has a request, and how its answer is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.settings.section import Field, Section

if TYPE_CHECKING:
    from proxy.settings.field_types import InquiryPath, InquiryStatus
    from proxy.settings.fields import Text

# A header's name in the path of an inquiry.
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def header_names(path: str) -> tuple[str, ...]:
    """Return the names of headers that stand in braces in the *path* of an inquiry."""
    return tuple(PLACEHOLDER.findall(path))


class InquiryAnswerSection(Section):
    """An answer of the bank to an inquiry; all that is written must hold."""

    status: InquiryStatus = Field(description="status of the answer, 200 to 499")
    member: Text = Field(
        "", description="member of the JSON answer, like payments: not empty for found, an empty list for not_found"
    )
    body: Text = Field("", description="text among the first 64 KiB of the answer's body; empty: any")


class InquirySection(Section):
    """How to ask the bank whether it has a request whose outcome is unknown."""

    path: InquiryPath = Field(
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
