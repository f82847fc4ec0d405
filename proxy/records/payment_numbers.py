"""Card numbers and IBANs: which lengths, prefixes and check digits they have."""

import re
from collections.abc import Callable
from functools import cache
from typing import Final

# Maps the first four digits of a card number to its possible lengths.
Lengths = Callable[[str], frozenset[int]]

# The IBAN registry (ISO 13616): length by country; where the account part has digits only, a letter excludes it.
_DIGITS_ONLY: Final = (
    "AE23 AT20 BA20 BE16 BI27 CR22 CZ24 DE22 DJ27 DK18 EE20 EG29 ES24 FI18 FO18 GL18 HR21 HU28 IL23 IS26 LT20 LY25 ME22"
    " MN20 MR27 NO15 PL28 PT25 RS22 SD18 SE24 SI19 SK24 SO23 ST25 TL23 TN24 VA22 XK20"
)
_WITH_LETTERS: Final = (
    "AD24 AL28 AZ28 BG22 BH22 BR29 BY28 CH21 CY28 DO28 FK18 FR27 GB22 GE22 GI23 GR27 GT28 HN28 IE22 IQ23 IT27 JO30 KW30"
    " KZ20 LB28 LC32 LI21 LU20 LV21 MC27 MD24 MK19 MT31 MU30 NI28 NL18 OM23 PK24 PS29 QA29 RO24 RU33 SA24 SC31 SM27"
    " SV28 TR26 UA29 VG24 YE30"
)
IBAN_LENGTHS: Final = {item[:2]: int(item[2:]) for item in f"{_DIGITS_ONLY} {_WITH_LETTERS}".split()}
ONLY_DIGITS: Final = frozenset(item[:2] for item in _DIGITS_ONLY.split())

# Issuer prefixes (ISO/IEC 7812) and their lengths. None starts with 1: 13 digits starting with 1 are milliseconds.
_ISSUERS: Final = (
    (re.compile(r"4"), frozenset((13, 16, 19))),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), frozenset((16,))),  # Mastercard
    (re.compile(r"3[47]"), frozenset((15,))),  # American Express
    (re.compile(r"6011|64[4-9]|65|62"), frozenset((16, 17, 18, 19))),  # Discover, UnionPay
    (re.compile(r"30[0-5]|3095|36|3[89]"), frozenset((14, 15, 16, 17, 18, 19))),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), frozenset((16, 17, 18, 19))),  # JCB
    (re.compile(r"50(?:18|20|38)|5893|6304|6759|676[1-3]"), frozenset(range(13, 20))),  # Maestro
)

# What each digit adds to Luhn's sum, plain or doubled: tables for bytes.translate instead of a loop.
_SINGLE: Final = bytes(max(0, min(code - 48, 9)) for code in range(256))
_DOUBLED: Final = bytes(int("0246813579"[digit]) for digit in _SINGLE)


def luhn(digits: str) -> bool:
    """Return whether the last digit of *digits* checks the others (ISO/IEC 7812-1 annex B)."""
    return sum(luhn_weights(digits.encode(), len(digits) % 2)) % 10 == 0


def iban_checks(iban: str) -> bool:
    """Return whether *iban*, upper case without blanks, has remainder 1 (ISO 13616, mod 97-10)."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def luhn_weights(digits: bytes, doubled: int) -> bytes:
    """Return what each digit adds to the sum if those at even (0) or odd (1) places are *doubled*."""
    weights = bytearray(digits.translate(_SINGLE))
    weights[doubled::2] = digits[doubled::2].translate(_DOUBLED)
    return bytes(weights)


_ANY_LENGTH: Final = frozenset(range(13, 20))


def any_lengths(prefix: str) -> frozenset[int]:  # noqa: ARG001 - same signature as issued_lengths
    """Return every length of a card number, whatever the four digits *prefix* are."""
    return _ANY_LENGTH


@cache
def issued_lengths(prefix: str) -> frozenset[int]:
    """Return the lengths that issuers assign to numbers with the four digits *prefix*; at most 10,000 are cached."""
    return frozenset[int]().union(*(lengths for issuer, lengths in _ISSUERS if issuer.match(prefix)))
