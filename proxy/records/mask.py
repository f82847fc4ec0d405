"""Card numbers, IBANs and tokens in strings that callers or the bank gave are masked before they reach the journal."""

import hmac
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Final
from urllib.parse import unquote

# Digits that end the first four of an IBAN, or 13 characters as in a card number, or what is like 4111.1111.1111: one
# search over clean text, 0.2 us. It begins with a digit so that `re` skips everything else; alternatives at its start
# would cost three times as much.
_HINT: Final = re.compile(
    r"[0-9][0-9 \t\r\n+\-](?:(?<=[A-Za-z]{2}[0-9]{2})|"
    r"[0-9 \t\r\n+\-](?:[0-9 \t\r\n+\-]{10}|[0-9][._/:,][0-9]{4}(?:[0-9]{2})?[._/:,][0-9]{4}))"
)
_SHORTEST: Final = 13  # characters of a card number; an IBAN has 15
_LONGEST_GROUPED: Final = 23  # 19 digits in groups of four
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_+=-]{7,}(?:\.[A-Za-z0-9_+=-]*)*")
_RUN: Final = re.compile(r"[0-9](?:[ \t\r\n+\-]{0,3}[0-9]){12,}")
_GROUP: Final = re.compile(r"[0-9]+")
_IBAN_START: Final = re.compile(r"[A-Za-z](?=[A-Za-z](?:[0-9]{2}|(?<![A-Za-z]{3})[ +\-][0-9]{2}))")
_SEPARATORS: Final = re.compile(r"[ \t\r\n+\-]{1,3}")
# Times, amounts, dates and addresses have these between digits too: they separate only if all are the same, and the
# groups those of a card (fours, the last may be shorter, or 4-6-5 and 4-6-4) or of an IBAN.
_POINTED: Final = re.compile(
    r"(?<![0-9])[0-9]{4}([._/:,])(?:[0-9]{4}\1[0-9]{4}(?:\1[0-9]{4})*(?:\1[0-9]{1,3})?|[0-9]{6}\1[0-9]{4,5})(?![0-9])"
    r"|[A-Za-z]{2}[._/:]?[0-9]{2}([._/:])[0-9A-Za-z]{4}(?:\2[0-9A-Za-z]{4}){1,7}(?:\2[0-9A-Za-z]{1,3})?"
)
_POINTED_HINT: Final = re.compile(r"[._/:,][0-9A-Za-z]{4,6}[._/:,][0-9A-Za-z]{4}")  # 0.3 us of a path, the other 4
_DASHES: Final = str.maketrans("._/:,", "-----")
# What other scripts and typesetters write for ASCII (its full-width forms), a blank or a dash: character by character,
# so that all stays in its place.
_ALIKE: Final[dict[int, int | str]] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\xa0\u1680\u202f\u205f\u2060\u3000\ufeff"), " "),
    0xDCA0: " ",  # Latin-1's, behind an escape
    **dict.fromkeys(range(0x2000, 0x200E), " "),
    **dict.fromkeys(map(ord, "\xad\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63"), "-"),
}
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_DEEPEST: Final = 3  # escapes of escapes that are looked behind
_LETTERED_UUID: Final = re.compile(r"(?=[0-9\-]{0,35}[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UUID_HIDDEN: Final = "?" * 36
_UUID_BYTES: Final = 16
_DASHED: Final = 36
_PLAIN: Final = 32

# The IBAN registry (ISO 13616): length by country; where the account part has digits only, a letter rules it out.
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
_ONLY_DIGITS: Final = frozenset(item[:2] for item in _DIGITS_ONLY.split())
_LONGEST_SPREAD: Final = 4 * max(IBAN_LENGTHS.values())

# Issuer prefixes (ISO/IEC 7812) and the lengths they come in. None begins with 1: 13 digits with a 1 are milliseconds.
_ISSUERS: Final = (
    (re.compile(r"4"), frozenset((13, 16, 19))),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), frozenset((16,))),  # Mastercard
    (re.compile(r"3[47]"), frozenset((15,))),  # American Express
    (re.compile(r"6011|64[4-9]|65|62"), frozenset((16, 17, 18, 19))),  # Discover, UnionPay
    (re.compile(r"30[0-5]|3095|36|3[89]"), frozenset((14, 15, 16, 17, 18, 19))),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), frozenset((16, 17, 18, 19))),  # JCB
    (re.compile(r"50(?:18|20|38)|5893|6304|6759|676[1-3]"), frozenset(range(13, 20))),  # Maestro
)

Found = tuple[int, int, str]  # where something to mask starts and ends, and its plain form


class Mask:
    """Masks what looks like a card number, an IBAN or a token as first4...last2#hmac8.

    *key* is this installation's own: equal values mask alike, so that a search can mask its argument and find them.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Mask>"

    def text(self, text: str) -> str:
        """Return *text* masked: every run of 13 to 19 digits that passes Luhn counts as a card number."""
        if _may_hide_one(text):
            return self._masked(text, _any_card)
        return text

    def index(self, value: str) -> str:
        """Return the value of an index header masked: digits count as a card only with an issuer's prefix and length.

        These values are what people search by: order numbers and times must survive.
        """
        # Two shortcuts for what is most often given: UUIDs, on which the search takes 0.7 us, and numbers.
        if is_lettered_uuid(value):
            return value
        if value.isdecimal() and value.isascii():
            is_one = 13 <= len(value) <= 19 and _issued_card(value) and luhn(value)
            return self._replace(value, [(0, len(value), value)]) if is_one else value
        if _may_hide_one(value):
            return self._masked(value, _issued_card)
        return value

    def _masked(self, text: str, is_card: Callable[[str], bool]) -> str:
        found = _found(text, is_card)
        if "%" in text:
            found += _behind_escapes(text, is_card)
        return self._replace(text, found) if found else text

    def _replace(self, text: str, found: list[Found]) -> str:
        """Return *text* with marks for what was found in it; of what is inside another only the other counts.

        What overlaps may be this or that, and gets one mark that hides both and has both their hashes.
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
        return f"#{hmac.digest(self._key, plain.encode(), 'sha256')[:4].hex()}"


def is_lettered_uuid(value: str) -> bool:
    """Return whether *value* is a UUID (RFC 9562 4), with or without its dashes, that has a letter.

    Without: one random UUID in some thousands has an IBAN's start and check digits in it.
    """
    digits = value
    if len(value) == _DASHED and value[8] == value[13] == value[18] == value[23] == "-":
        digits = value.replace("-", "")
    if len(digits) != _PLAIN or digits.isdecimal():
        return False
    try:
        return len(bytes.fromhex(digits)) == _UUID_BYTES  # blanks are skipped
    except ValueError:
        return False


def _may_hide_one(text: str) -> bool:
    """Return whether a card number, an IBAN or a token may be in *text*: most have none, and need no search for it."""
    return (
        "eyJ" in text
        or "%" in text
        or (len(text) >= _SHORTEST and (_HINT.search(text) is not None or not text.isascii()))
    )


def _longest_first(found: Found) -> tuple[int, int]:
    """Return what sorts by place, and what begins at the same one by length."""
    return found[0], -found[1]


def _found(text: str, is_card: Callable[[str], bool]) -> list[Found]:
    """Return every token, IBAN and card number in *text*, as it is written there; they may overlap."""
    found = [(*match.span(), match.group()) for match in _TOKEN.finditer(text)] if "eyJ" in text else []
    if not text.isascii():
        text = text.translate(_ALIKE)
    if _HINT.search(text) is None:
        return found
    # One random UUID in 300 ends in twelve digits, and one of ten such would pass Luhn.
    text, uuids = _LETTERED_UUID.subn(_UUID_HIDDEN, text)
    if uuids and _HINT.search(text) is None:
        return found
    if _POINTED_HINT.search(text) is not None:
        text = _POINTED.sub(_dashed, text)
    return [*found, *_ibans(text), *_cards(text, is_card)]


def _dashed(match: re.Match[str]) -> str:
    """Return a number with dashes for what its groups have between them, or a list of more numbers as it is."""
    text = match.group()
    return text if "," in text and len(text) > _LONGEST_GROUPED else text.translate(_DASHES)


def _behind_escapes(text: str, is_card: Callable[[str], bool]) -> list[Found]:
    """Return what a target's escapes hide, blanks and dashes or digits, and where in *text* it stands.

    The text keeps its spelling: what escapes stand for, such as NUL, is not for a record.
    """
    found: list[Found] = []
    places: list[int] = []
    for _ in range(_DEEPEST):
        plain = unquote(text, errors="surrogateescape")
        behind = _found(plain, is_card)
        if plain == text or not (behind or "%" in plain):
            break
        steps = _places(text)
        places = [places[step] for step in steps] if places else steps
        found += [(places[start], places[end], number) for start, end, number in behind]
        text = plain
    return found


def _places(text: str) -> list[int]:
    """Return where in *text* each character of `unquote(text)` comes from, and its end."""
    places: list[int] = []
    at = 0
    for escapes in _ESCAPES.finditer(text):
        places += range(at, escapes.start())
        at = escapes.start()
        for char in unquote(escapes.group(), errors="surrogateescape"):
            places.append(at)
            at += 3 * len(char.encode("utf-8", "surrogateescape"))
    places += range(at, len(text) + 1)
    return places


def luhn(digits: str) -> bool:
    """Return whether the last digit of *digits* checks the others (ISO/IEC 7812-1 annex B)."""
    return sum(_luhn_weights(digits, len(digits) % 2)) % 10 == 0


def iban_checks(iban: str) -> bool:
    """Return whether *iban*, upper case without blanks, has remainder 1 (ISO 13616, mod 97-10)."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def _luhn_weights(digits: str, doubled: int) -> list[int]:
    """Return what each digit adds to the sum if those at even (0) or odd (1) places are *doubled*."""
    return [int("0246813579"[int(digit)]) if place % 2 == doubled else int(digit) for place, digit in enumerate(digits)]


def _any_card(digits: str) -> bool:  # noqa: ARG001 - the same shape as _issued_card
    return True


def _issued_card(digits: str) -> bool:
    return any(prefix.match(digits) and len(digits) in lengths for prefix, lengths in _ISSUERS)


def _cards(text: str, is_card: Callable[[str], bool]) -> list[Found]:
    """Return each card number, with its digits: groups of digits that together have 13 to 19 and pass Luhn.

    It is the longest from where it begins; digits before a number may be one with its first groups, so that others
    begin in it. Running sums for both parities make a window cost a subtraction: a long target of single digits stays
    linear.
    """
    found: list[Found] = []
    escaped = "%" in text
    for run in _RUN.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, run.start(), run.end())]
        digits = "".join(text[start:end] for start, end in groups)
        bounds = [0, *accumulate(end - start for start, end in groups)]
        sums = [[0, *accumulate(_luhn_weights(digits, parity))] for parity in (0, 1)]
        for first, (start, _) in enumerate(groups):
            # The digits of an escape are none of a number's, unless a card's begin there by chance behind a percent.
            is_one = _issued_card if escaped and "%" in text[max(0, start - 2) : start] else is_card
            begin = bounds[first]
            last = first + 1
            longest = 0
            while last < len(bounds) and bounds[last] - begin <= 19:
                end = bounds[last]
                total = sums[end % 2]
                if end - begin >= 13 and (total[end] - total[begin]) % 10 == 0 and is_one(digits[begin:end]):
                    longest = last
                last += 1
            if longest:
                found.append((start, groups[longest - 1][1], digits[begin : bounds[longest]]))
    return found


def _ibans(text: str) -> list[Found]:
    """Return each IBAN, written together or in groups, with its plain upper-case form."""
    found: list[Found] = []
    done = 0
    for match in _IBAN_START.finditer(text):
        start = match.start()
        country = text[start : start + 2].upper()
        length = IBAN_LENGTHS.get(country)
        if length is None or start < done:
            continue
        end = _end_of(text, start, length)
        plain = _SEPARATORS.sub("", text[start:end]).upper()
        account = plain[4:]
        if len(plain) != length or not (account.isdigit() or country not in _ONLY_DIGITS):
            continue
        if iban_checks(plain):
            found.append((start, end, plain))
            done = end
    return found


def _end_of(text: str, start: int, length: int) -> int:
    """Return where *length* letters and digits end that begin at *start*, separators not counted; *start* if none."""
    at = start
    stop = min(len(text), start + _LONGEST_SPREAD)
    while length and at < stop:
        if text[at].isalnum() and text[at].isascii():
            length -= 1
            at += 1
        elif separator := _SEPARATORS.match(text, at):
            at = separator.end()
        else:
            break
    return at if not length else start
