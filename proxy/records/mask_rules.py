"""Find card numbers, IBANs and tokens in a text, in a bounded number of steps."""

import re
from itertools import accumulate
from typing import Final
from urllib.parse import unquote

from proxy.records.payment_numbers import (
    IBAN_LENGTHS,
    ONLY_DIGITS,
    Lengths,
    iban_checks,
    issued_lengths,
    luhn_weights,
)

# The last digits of an IBAN's first four characters, or 13 characters as in a card number, or digits as in
# 4111.1111.1111: one search of clean text, 0.2 us. It starts with a digit so that `re` skips everything else;
# alternatives at its start would take three times as long.
_HINT: Final = re.compile(
    r"[0-9][0-9 \t\r\n+\-](?:(?<=[A-Za-z]{2}[0-9]{2})|"
    r"[0-9 \t\r\n+\-](?:[0-9 \t\r\n+\-]{10}|[0-9][._/:,][0-9]{4}(?:[0-9]{2})?[._/:,][0-9]{4}))"
)
_SHORTEST: Final = 13  # characters of a card number; an IBAN has 15
_TOO_LONG: Final = 20  # digits
_LONGEST_GROUPED: Final = 23  # 19 digits in groups of four
_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_+=-]{7,}(?:\.[A-Za-z0-9_+=-]*)*")
_RUN: Final = re.compile(r"[0-9](?:[ \t\r\n+\-]{0,3}[0-9]){12,}")
_GROUP: Final = re.compile(r"[0-9]+")
_IBAN_START: Final = re.compile(r"[A-Za-z](?=[A-Za-z](?:[0-9]{2}|(?<![A-Za-z]{3})[ +\-][0-9]{2}))")
_SEPARATORS: Final = re.compile(r"[ \t\r\n+\-]{1,3}")
# Times, amounts, dates and addresses also have these between digits: they separate only if all are the same and the
# groups are those of a card (fours, the last may be shorter, or 4-6-5 and 4-6-4) or of an IBAN.
_POINTED: Final = re.compile(
    r"(?<![0-9])[0-9]{4}([._/:,])(?:[0-9]{4}\1[0-9]{4}(?:\1[0-9]{4})*(?:\1[0-9]{1,3})?|[0-9]{6}\1[0-9]{4,5})(?![0-9])"
    r"|[A-Za-z]{2}[._/:]?[0-9]{2}([._/:])[0-9A-Za-z]{4}(?:\2[0-9A-Za-z]{4}){1,7}(?:\2[0-9A-Za-z]{1,3})?"
)
_POINTED_HINT: Final = re.compile(r"[._/:,][0-9A-Za-z]{4,6}[._/:,][0-9A-Za-z]{4}")  # 0.3 us for a path, the other one 4
_DASHES: Final = str.maketrans("._/:,", "-----")
# Unicode variants of ASCII (full-width forms), blank and dash, mapped one to one so that positions don't change.
_ALIKE: Final[dict[int, int | str]] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "\xa0\u1680\u202f\u205f\u2060\u3000\ufeff"), " "),
    0xDCA0: " ",  # Latin-1's, after an escape
    **dict.fromkeys(range(0x2000, 0x200E), " "),
    **dict.fromkeys(map(ord, "\xad\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63"), "-"),
}
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_DEEPEST: Final = 3  # nested levels of escapes that are decoded
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UUID_HIDDEN: Final = "?" * 36
_UUID_BYTES: Final = 16
_DASHED: Final = 36
_PLAIN: Final = 32

_LONGEST_SPREAD: Final = 4 * max(IBAN_LENGTHS.values())

# Steps for all texts of one record, 2 to 4 us each; a path takes a dozen. With 128, the slowest record found in a
# ten-minute search took 1.3 ms, on a machine with four busy processes.
MOST_STEPS: Final = 96

Found = tuple[int, int, str]  # start and end of what to mask, and its plain form


class Steps:
    """The remaining search budget; texts that share one also share its time on the loop."""

    __slots__ = ("left",)

    def __init__(self, left: int = MOST_STEPS) -> None:
        self.left = left

    def take(self, number: int) -> None:
        """Take *number* steps; raises TooCostly if none are left."""
        self.left -= number
        if self.left < 0:
            raise TooCostly


class TooCostly(Exception):
    """A text holds more number-like parts than any real text."""


def is_lettered_uuid(value: str) -> bool:
    """Return whether *value* is a UUID (RFC 9562 4), with or without dashes, that has a letter.

    Without dashes, one random UUID in some thousands contains the start and check digits of an IBAN.
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


def may_need_mask(text: str) -> bool:
    """Return whether *text* may hold a card number, an IBAN or a token: most don't, and need no search."""
    return (
        "eyJ" in text
        or "%" in text
        or (len(text) >= _SHORTEST and (_HINT.search(text) is not None or not text.isascii()))
    )


def found_in(text: str, lengths: Lengths, steps: Steps) -> list[Found]:
    """Return every token, IBAN and card number in *text*, as written there; they may overlap."""
    found = [(*match.span(), match.group()) for match in _TOKEN.finditer(text)] if "eyJ" in text else []
    steps.take(len(found) + len(text) // 64)
    if not text.isascii():
        steps.take(len(text) // 16)
        text = text.translate(_ALIKE)
    if _HINT.search(text) is None:
        return found
    # One random UUID in 300 ends in twelve digits, and one in ten of those would pass Luhn.
    if len(text) >= _DASHED:
        text, uuids = _UUID.subn(_without_letters, text)
        if uuids and _HINT.search(text) is None:
            return found
    if _POINTED_HINT.search(text) is not None:
        text = _POINTED.sub(_dashed, text)
    return [*found, *_ibans(text, steps), *_cards(text, lengths, steps)]


def _without_letters(match: re.Match[str]) -> str:
    """Return a UUID of digits only unchanged, since a card number may start or end in it; hide any other."""
    return _UUID_HIDDEN if is_lettered_uuid(match.group()) else match.group()


def _dashed(match: re.Match[str]) -> str:
    """Return a number with its separators replaced by dashes; a list of more numbers stays unchanged."""
    text = match.group()
    return text if "," in text and len(text) > _LONGEST_GROUPED else text.translate(_DASHES)


def found_in_escapes(text: str, lengths: Lengths, steps: Steps) -> list[Found]:
    """Return what is found after decoding %-escapes (of blanks, dashes or digits), with its place in *text*.

    The text itself stays encoded: decoded characters such as NUL don't belong in a record.
    """
    found: list[Found] = []
    places: list[int] = []
    for _ in range(_DEEPEST):
        steps.take(text.count("%"))
        plain = unquote(text, errors="surrogateescape")
        behind = found_in(plain, lengths, steps)
        if plain == text or not (behind or "%" in plain):
            break
        here = _places(text)
        places = [places[place] for place in here] if places else here
        found += [(places[start], places[end], number) for start, end, number in behind]
        text = plain
    return found


def _places(text: str) -> list[int]:
    """Return for each character of `unquote(text)` its position in *text*, and then the end position."""
    places: list[int] = []
    at = 0
    for escapes in _ESCAPES.finditer(text):
        places += range(at, escapes.start())
        at = escapes.start()
        if escapes.end() - at == 3:
            places.append(at)
            at += 3
            continue
        for char in bytes.fromhex(escapes.group().replace("%", "")).decode("utf-8", "surrogateescape"):
            places.append(at)
            at += 3 * _utf8_length(ord(char))
    places += range(at, len(text) + 1)
    return places


def _utf8_length(code: int) -> int:
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:  # one byte, or one that is not UTF-8
        return 1
    return 2 if code < 0x800 else 3 if code < 0x10000 else 4


def _cards(text: str, lengths: Lengths, steps: Steps) -> list[Found]:
    """Return each card number, with its digits: groups of digits, 13 to 19 together, that pass Luhn.

    For each start the longest number counts; digits before a number may form one with its first groups, so numbers may
    overlap. Running sums for both parities make each window one subtraction: a long target of single digits takes
    linear time.
    """
    found: list[Found] = []
    escaped = "%" in text
    for run in _RUN.finditer(text):
        steps.take(4)
        groups: list[tuple[int, int]] = []
        for match in _GROUP.finditer(text, run.start(), run.end()):
            steps.take(1)
            start, end = match.span()
            # A longer group is part of no number: its placeholder keeps the neighbours apart.
            groups.append((start, min(end, start + _TOO_LONG)))
        digits = "".join([text[start:end] for start, end in groups])
        bounds = [0, *accumulate([end - start for start, end in groups])]
        sums: list[list[int]] = []
        last = 0
        for first, (start, _) in enumerate(groups):
            begin = bounds[first]
            while last + 1 < len(bounds) and bounds[last + 1] - begin <= 19:
                last += 1
            if last <= first or bounds[last] - begin < 13:
                continue
            steps.take(1)
            # An escape's digits belong to no number, unless a card number happens to start right after a percent sign.
            behind = escaped and "%" in text[max(0, start - 2) : start]
            allowed = (issued_lengths if behind else lengths)(digits[begin : begin + 4])
            if not allowed:  # dates and counters, of which most keys consist
                continue
            sums = sums or _luhn_sums(digits.encode())
            at = last
            while at > first and bounds[at] - begin >= 13:
                total = sums[bounds[at] % 2]
                if (total[bounds[at]] - total[begin]) % 10 == 0 and bounds[at] - begin in allowed:
                    found.append((start, groups[at - 1][1], digits[begin : bounds[at]]))
                    break
                at -= 1
    return found


def _luhn_sums(digits: bytes) -> list[list[int]]:
    """Return running sums of what each of *digits* adds to Luhn's sum, for both parities."""
    return [[0, *accumulate(luhn_weights(digits, parity))] for parity in (0, 1)]


def _ibans(text: str, steps: Steps) -> list[Found]:
    """Return each IBAN, written together or in groups, with its plain upper-case form."""
    found: list[Found] = []
    done = 0
    for match in _IBAN_START.finditer(text):
        start = match.start()
        country = text[start : start + 2].upper()
        length = IBAN_LENGTHS.get(country)
        if length is None or start < done:
            steps.take(1)
            continue
        steps.take(8)
        end = _end_of(text, start, length)
        plain = _SEPARATORS.sub("", text[start:end]).upper()
        account = plain[4:]
        if len(plain) != length or not (account.isdigit() or country not in ONLY_DIGITS):
            continue
        if iban_checks(plain):
            found.append((start, end, plain))
            done = end
    return found


def _end_of(text: str, start: int, length: int) -> int:
    """Return where *length* letters and digits from *start* end, separators not counted; *start* if there are fewer."""
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
