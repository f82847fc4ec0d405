"""What a line of a head may consist of, in both directions (RFC 9110 5, RFC 9112 2.2)."""

import re
from typing import Final

from proxy.errors import BadRequest

TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
CONTROLS: Final = bytes({*range(0x20), 0x7F} - {0x09})  # CR and LF too


def control_fault(text: bytes) -> BadRequest:
    """Return the error for *text*, a line of a head that has a control character."""
    if b"\n" in text or b"\r" in text:
        return BadRequest("A line of the head ends in something else than CRLF (RFC 9112 2.2).")
    return BadRequest("The head has a control character (RFC 9110 5.5).")
