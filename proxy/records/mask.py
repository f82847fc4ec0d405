"""Mask card numbers, IBANs and tokens in strings from callers or the bank before they reach the journal."""

import hmac
from typing import Final

from proxy.records.mask_rules import (
    Found,
    Steps,
    TooCostly,
    found_in,
    found_in_escapes,
    is_lettered_uuid,
    may_need_mask,
)
from proxy.records.payment_numbers import Lengths, any_lengths, issued_lengths, luhn


class Mask:
    """Masks what looks like a card number, an IBAN or a token as first4...last2#hmac8.

    *key* belongs to this installation: equal values have equal masks, so a search masks its argument and finds them.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Mask>"

    def text(self, text: str, steps: Steps | None = None) -> str:
        """Return *text* masked; every run of 13 to 19 digits that passes Luhn counts as a card number.

        A text that takes more than *steps* is masked as a whole, so that no caller can block the loop for the others.
        """
        if may_need_mask(text):
            return self._masked(text, any_lengths, steps)
        return text

    def index(self, value: str, steps: Steps | None = None) -> str:
        """Return the value of an index header masked; digits count as a card only with an issuer's prefix and length.

        People search by these values, so order numbers and times must stay readable.
        """
        # Fast paths for the most common values: UUIDs, whose search takes 0.7 us, and numbers.
        if is_lettered_uuid(value):
            return value
        if value.isdecimal() and value.isascii():
            is_one = 13 <= len(value) <= 19 and len(value) in issued_lengths(value[:4]) and luhn(value)
            return self._replace(value, [(0, len(value), value)]) if is_one else value
        if may_need_mask(value):
            return self._masked(value, issued_lengths, steps)
        return value

    def _masked(self, text: str, lengths: Lengths, steps: Steps | None) -> str:
        steps = steps or Steps()
        try:
            steps.take(2)
            found = found_in(text, lengths, steps)
            if "%" in text:
                found += found_in_escapes(text, lengths, steps)
            steps.take(2 * len(found))
        except TooCostly:
            found = [(0, len(text), text)]
        return self._replace(text, found) if found else text

    def _replace(self, text: str, found: list[Found]) -> str:
        """Return *text* with every item of *found* replaced by its mask; an item inside another one is ignored.

        Items that partly overlap share one mask, which hides both and has both hashes.
        """
        found.sort(key=_longest_first)
        pieces: list[str] = []
        at = 0
        for start, end, plain in found:
            if end <= at:
                continue
            if start >= at:
                pieces += (text[at:start], f"{plain[:4]}…{plain[-2:]}{self._hash(plain)}")
            else:
                mark = pieces[-1]
                pieces[-1] = f"{mark[:5]}{plain[-2:]}{mark[7:]}{self._hash(plain)}"
            at = end
        return "".join((*pieces, text[at:]))

    def _hash(self, plain: str) -> str:
        return f"#{hmac.digest(self._key, plain.encode('utf-8', 'surrogatepass'), 'sha256')[:4].hex()}"


def _longest_first(found: Found) -> tuple[int, int]:
    """Return a sort key: by start, at the same start the longest first."""
    return found[0], -found[1]


# To ask only whether a value would be masked, which is the same with each key.
KEYLESS: Final = Mask(b"")
