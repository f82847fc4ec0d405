"""What must not survive does not, and what people search by does."""

import base64
import json
import re
import string
import time  # noqa: TID251  processor time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.records.mask import Mask
from proxy.records.mask_rules import is_lettered_uuid
from proxy.records.payment_numbers import IBAN_LENGTHS, iban_checks, luhn

KEY = bytes(range(32))
MASK = Mask(KEY)
SEPARATORS = st.sampled_from(["", " ", "-", "%20", "+", "  "])
PREFIXES = {"4": (13, 16, 19), "51": (16,), "2720": (16,), "34": (15,), "6011": (16, 19), "36": (14,), "3528": (16,)}


@st.composite
def cards(draw: st.DrawFn) -> str:
    """Return a card number of an issuer, with its check digit."""
    prefix = draw(st.sampled_from(sorted(PREFIXES)))
    length = draw(st.sampled_from(PREFIXES[prefix]))
    body = prefix + draw(st.text(string.digits, min_size=length - 1 - len(prefix), max_size=length - 1 - len(prefix)))
    return next(body + check for check in string.digits if luhn(body + check))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    """Return an IBAN with its check digits."""
    country = draw(st.sampled_from(sorted(IBAN_LENGTHS)))
    size = IBAN_LENGTHS[country] - 4
    account = draw(st.text(string.digits, min_size=size, max_size=size))
    return next(iban for check in range(2, 99) if iban_checks(iban := f"{country}{check:02}{account}"))


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Return a JWT that nobody signed."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    header = {"alg": "RS256", "kid": draw(st.text(string.hexdigits, max_size=40))}
    payload = {"sub": draw(st.text(max_size=30)), "exp": draw(st.integers(0, 2**40))}
    signature = base64.urlsafe_b64encode(draw(st.binary(min_size=32, max_size=256))).decode().rstrip("=")
    return f"{part(header)}.{part(payload)}.{signature}"


def digits_of(text: str) -> str:
    """Return *text* without separators."""
    return re.sub(r"%20|[ +\-]", "", text)


@given(card=cards(), separator=SEPARATORS, group=st.integers(2, 6), around=st.sampled_from(["{}", "/a/{}/b", "x={}y"]))
def test_no_card_number_survives_in_text(card: str, separator: str, group: int, around: str) -> None:
    """However it is grouped and wherever it stands, a card number leaves only its first four and last two digits."""
    written = separator.join(card[at : at + group] for at in range(0, len(card), group))

    masked = MASK.text(around.format(written))

    assert card not in digits_of(masked)
    assert f"{card[:4]}…{card[-2:]}#" in masked


@given(card=cards(), separator=SEPARATORS)
def test_no_card_number_survives_in_an_index_value(card: str, separator: str) -> None:
    """An index header's value that is a card number of a known issuer is masked as well."""
    written = separator.join(card[at : at + 4] for at in range(0, len(card), 4))

    assert card not in digits_of(MASK.index(written))
    assert card not in digits_of(MASK.index(f"order {written}"))


@given(card=cards(), before=st.dates(), after=st.integers(0, 99))
def test_a_card_number_after_a_date_does_not_survive_in_an_index_value(card: str, before: object, after: int) -> None:
    """No issuer's numbers begin as a date does, so that of the whole run only the card's digits are summed up."""
    assert card not in digits_of(MASK.index(f"{before}-{card}-{after:02d}"))


@given(card=cards(), before=st.integers(0, 9999), after=st.integers(0, 9999))
def test_a_card_number_between_other_numbers_is_found(card: str, before: int, after: int) -> None:
    """A year or an amount beside a card number, with a blank or dash between, does not hide it."""
    assert card not in MASK.text(f"{before} {card}-{after}")


@given(iban=ibans(), grouped=st.booleans(), lower=st.booleans())
def test_no_iban_survives(iban: str, grouped: bool, lower: bool) -> None:  # noqa: FBT001 - hypothesis draws them
    """An IBAN is masked together and in groups of four, in capitals or not, in paths and in index values."""
    written = " ".join(iban[at : at + 4] for at in range(0, len(iban), 4)) if grouped else iban
    written = written.lower() if lower else written

    for masked in (MASK.text(f"/accounts/{written}/balance"), MASK.index(written)):
        assert iban not in digits_of(masked).upper()
        assert f"{iban[:4]}…" in masked


@given(token=tokens(), around=st.sampled_from(["{}", "/cb/{}", "Bearer%20{}", "x{}/y"]))
def test_no_token_survives(token: str, around: str) -> None:
    """Of a JWT neither payload nor signature is left, nor its header but for four characters."""
    for masked in (MASK.text(around.format(token)), MASK.index(around.format(token))):
        assert not any(part in masked for part in token.split("."))


@given(st.integers(1_000_000_000_000, 1_999_999_999_999))
def test_milliseconds_survive_in_an_index_value(milliseconds: int) -> None:
    """13 digits that begin with 1 are a time."""
    assert MASK.index(str(milliseconds)) == str(milliseconds)
    assert MASK.index(f"batch-{milliseconds}") == f"batch-{milliseconds}"


@given(st.from_regex(r"[0-9A-Fa-f]{8}([- ]?[0-9A-Fa-fg]{4}){3}-?[0-9A-Fa-f]{11,13}", fullmatch=True))
def test_a_uuid_with_a_letter_is_told_from_what_is_none(text: str) -> None:
    """With all its dashes or none, in their places; all else is searched."""
    dashed = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9A-Fa-f]{32}"

    assert is_lettered_uuid(text) == bool(re.fullmatch(dashed, text) and re.search("[A-Fa-f]", text))


@given(st.uuids())
def test_uuids_survive(uuid: object) -> None:
    """A UUID stays itself, also one whose last group is twelve digits."""
    text = str(uuid)
    if re.search("[a-f]", text):
        assert MASK.index(text) == text
        assert MASK.text(f"/payments/{text}") == f"/payments/{text}"


@pytest.mark.parametrize(
    "value",
    [
        "998482157630",  # a merchant id
        "7992739871300005",  # passes Luhn, but no issuer has 79
        "4111111111111112",  # an issuer's prefix, but fails Luhn
        "41111111111111111115",  # 20 digits
        "DE00370400440532013000",  # fails mod 97
        "ZZ89370400440532013000",  # no such country
        "eyJ",
        "2027-01-15T08:00:00.123456Z",
        "550e8400-e29b-41d4-a716-446655440000",
        "",
    ],
)
def test_an_index_value_that_only_looks_like_one_survives(value: str) -> None:
    """People search by these."""
    assert MASK.index(value) == value


def test_equal_values_mask_alike_however_they_are_written() -> None:
    """A search masks its argument and finds what was written with blanks or escapes."""
    assert MASK.text("4111 1111 1111 1111") == MASK.text("4111111111111111") == MASK.text("4111%201111-1111+1111")
    assert MASK.text("de89 3704 0044 0532 0130 00") == MASK.text("DE89370400440532013000")
    assert MASK.text("%34111111111111111") == MASK.text("4111111111111111")


@given(card=cards(), before=st.text(string.digits, min_size=1, max_size=12), after=st.text(string.digits, max_size=9))
def test_digits_around_a_card_number_take_nothing_of_it_away(card: str, before: str, after: str) -> None:
    """They may be a number with its first groups, or with its last: both are hidden, and the card's hash is there."""
    for written in (" ".join([before, *re.findall("..?.?.?", card), after]), f"{before}-{card}-{after}"):
        masked = MASK.index(written)

        first, last = re.split("[0-9]{4}…[0-9]{2}(?:#[0-9a-f]{8})+", masked)
        assert before.startswith(digits_of(first))
        assert after.endswith(digits_of(last))
        if _is_alone(written, card):
            assert MASK.index(card).partition("#")[2] in masked


def _is_alone(written: str, card: str) -> bool:
    """Return whether no longer number of an issuer in *written* has all of *card* in it."""
    digits = digits_of(written)
    windows = (digits[at : at + size] for size in range(len(card) + 1, 20) for at in range(len(digits) - size + 1))
    return not any(card in window and luhn(window) for window in windows)


def test_what_is_one_number_or_another_has_one_mark_with_both_hashes() -> None:
    """The digits before this card's number are one with its first group; today's mark stays where nothing is unsure."""
    first, card = (MASK.text(number) for number in ("9685167452014111", "4111111111111111"))

    assert luhn("9685167452014111")
    assert MASK.text("ref 9685 1674 5201 4111 1111 1111 1111") == f"ref 9685…11{first[7:]}{card[7:]}"


@given(
    card=cards(),
    separator=st.sampled_from([*"._/:,\t\xa0\u2009\u2011\u2013", "%C2%A0", "%2520", "%252D", "%09"]),
    around=st.sampled_from(["{}", "/a/{}/b", "x={}y", "{}.", "2026/{}"]),
)
def test_no_separator_hides_a_card_number(card: str, separator: str, around: str) -> None:
    """In groups of four all that people and programs set between them is known, plain or escaped, and masks alike."""
    written = separator.join(card[at : at + 4] for at in range(0, len(card), 4))

    assert MASK.index(written) == MASK.index(card)
    assert MASK.text(card)[7:] in MASK.text(around.format(written)) or around.startswith("2026")
    assert card[4:12] not in re.sub(r"%[0-9A-F]{2}|%25[0-9A-F]{2}|[^0-9]", "", MASK.text(around.format(written)))


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("3782.822463.10005", "378282246310005"),
        ("3056/930902/5904", "30569309025904"),
        ("\uff14" + "\uff11" * 15, "4111111111111111"),
        ("%2534111111111111111", "4111111111111111"),
        ("%EF%BC%94111111111111111", "4111111111111111"),
        ("DE89.3704.0044.0532.0130.00", "DE89370400440532013000"),
        ("DE89_3704_0044_0532_0130_00", "DE89370400440532013000"),
        ("DE89/3704/0044/0532/0130/00", "DE89370400440532013000"),
        ("DE/89/3704/0044/0532/0130/00", "DE89370400440532013000"),
        ("GB82/WEST/1234/5698/7654/32", "GB82WEST12345698765432"),
        ("GB82:WEST:1234:5698:7654:32", "GB82WEST12345698765432"),
        ("de-89-3704-0044-0532-0130-00", "DE89370400440532013000"),
        ("DE 89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("DE.89.3704.0044.0532.0130.00", "DE89370400440532013000"),
        ("GB82.WEST.1234.5698.7654.32", "GB82WEST12345698765432"),
    ],
)
def test_other_spellings_mask_alike(written: str, plain: str) -> None:
    """A search for the number finds it however it was written."""
    assert MASK.text(written) == MASK.index(written) == MASK.text(plain) != plain


def test_a_number_that_escapes_spoil_is_masked_beside_another() -> None:
    """What is a number only as it is written, and what is one only behind escapes, both go."""
    masked = MASK.text("/x/550000000000000%34/4111111111111111%31")

    assert masked == f"/x/{MASK.text('5500000000000004')}/{MASK.text('4111111111111111')}%31"


def test_what_escapes_stand_for_does_not_come_in() -> None:
    """PostgreSQL takes no NUL; a path with a number in it keeps its spelling but for that."""
    assert MASK.text("a%00b%20%C3%BC 4111111111111111%00") == f"a%00b%20%C3%BC {MASK.text('4111111111111111')}%00"


@given(
    st.datetimes().map(lambda time: time.isoformat() + "Z")
    | st.datetimes().map(lambda time: time.strftime("%d.%m.%Y/%H:%M:%S,%f"))
    | st.ip_addresses(v=4).map(lambda address: f"{address}:{int(address) % 65536}")
    | st.integers(0, 10**15).map(lambda cents: f"{cents // 100:,}.{cents % 100:02}")
    | st.lists(st.decimals(0, 10**6, places=2), max_size=9).map(lambda amounts: ",".join(map(str, amounts)))
    | st.lists(st.integers(1000, 9999), min_size=6).map(lambda numbers: ",".join(map(str, numbers)))
)
def test_times_addresses_amounts_and_lists_survive(text: str) -> None:
    """Points, colons, slashes and commas stand between digits of a card only where its groups are a card's."""
    assert MASK.index(text) == MASK.text(text) == text


def test_the_mask_depends_on_the_key() -> None:
    """Without the installation's key nobody can try all card numbers."""
    assert Mask(b"another").text("4111111111111111") != MASK.text("4111111111111111")


@pytest.mark.parametrize(
    "text", ["/payment/v2/payments", "/a%20b/%7Euser", "/x/12345678/y?", "\udcff/\udc80", "4" * 40]
)
def test_text_without_any_is_returned_as_it_is(text: str) -> None:
    """Escapes and odd bytes keep their spelling."""
    assert MASK.text(text) == text


@pytest.mark.parametrize("text", ["1", "0123-", "%31", "1 ", "DE12", "eyJ", "1.", "a1-"])
def test_the_time_grows_with_the_length_and_no_faster(text: str) -> None:
    """Some milliseconds for 2 KB of anything: a search that is quadratic in it took 50 ms of the loop."""

    def processor_time(length: int) -> float:
        times = []
        for _ in range(3):
            started = time.thread_time()
            MASK.text((text * length)[:length])
            times.append(time.thread_time() - started)
        return min(times)

    assert processor_time(20_000) < 40 * processor_time(2_000)  # quadratic: 100 times
