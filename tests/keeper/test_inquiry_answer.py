import json

import pytest

from proxy.keeper.inquiry import Verdict
from proxy.keeper.inquiry_answer import LOOKED_AT_BYTES, Reading, read_answer
from proxy.settings.inquiry import InquiryAnswerSection, InquirySection

Answers = tuple[tuple[int, str, str], tuple[int, str, str]]
BY_MEMBER = ((200, "payments", ""), (200, "payments", ""))
BY_TEXT = ((200, "", ""), (404, "", "no such payment"))
BY_TWO = ((200, "a.b", ""), (200, "a.n", ""))
FOUND, NOT_FOUND = Reading(Verdict.FOUND), Reading(Verdict.NOT_FOUND)


def section(answers: Answers) -> InquirySection:
    """Return an inquiry whose *answers*, found and not_found, are status, member and body."""
    found, missing = (InquiryAnswerSection(status=a, member=b, body=c) for a, b, c in answers)
    return InquirySection(path="/p?id={Request-Id}", found=found, not_found=missing)


@pytest.mark.parametrize(
    ("answers", "status", "body", "reading"),
    [
        (BY_MEMBER, 200, b'{"payments": [{"a": 1}]}', FOUND),
        (BY_MEMBER, 200, b'{"payments": []}', NOT_FOUND),
        (BY_MEMBER, 200, b'\xef\xbb\xbf{"payments": []}', NOT_FOUND),
        (BY_TEXT, 200, b"anything", FOUND),
        (BY_TEXT, 404, b'{"message": "no such payment"}', NOT_FOUND),
        (BY_TWO, 200, b'{"a": {"b": "x", "n": 1}}', FOUND),
        (BY_TWO, 200, b'{"a": {"b": "x", "n": null}}', FOUND),
        (BY_TWO, 200, b'{"a": {"b": "", "n": []}}', NOT_FOUND),
    ],
)
def test_what_an_answer_means(answers: Answers, status: int, body: bytes, reading: Reading) -> None:
    """What is exactly as the rule says; a clear answer needs no reason."""
    assert read_answer(section(answers), status, body) == reading


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("null", "null"),
        ("0", "0"),
        ("0.0", "0"),
        ("false", "false"),
        ('""', "an empty text"),
        ("{}", "an empty object"),
    ],
)
def test_only_an_empty_list_is_not_found(value: str, kind: str) -> None:
    """All else that is empty may stand beside an error: a search that failed in part is no leave to pay again."""
    body = f'{{"payments": {value}, "errors": [{{"code": "partial"}}]}}'.encode()

    assert read_answer(section(BY_MEMBER), 200, body) == Reading(Verdict.UNCLEAR, f"payments is {kind}")


@pytest.mark.parametrize(
    ("answers", "status", "body", "why"),
    [
        (BY_MEMBER, 200, b"{}", "it has no member payments"),
        (BY_MEMBER, 200, b"[1, 2]", "it has no member payments"),
        (BY_MEMBER, 200, b'"payments"', "it has no member payments"),
        (BY_MEMBER, 200, b'{"payments": [{"month": ,}]}', "it can't be read as JSON"),
        (BY_MEMBER, 200, b'{"payments": []} trailing', "it can't be read as JSON"),
        (BY_MEMBER, 200, b'{"payments": [], "x": NaN}', "it can't be read as JSON"),
        (BY_MEMBER, 200, b'{"payments": [], "x": "\xff"}', "it can't be read as JSON"),
        (BY_MEMBER, 200, '{"payments": []}'.encode("utf-16"), "it can't be read as JSON"),
        (BY_MEMBER, 200, b"[" * 60_000, "it can't be read as JSON"),
        (BY_MEMBER, 200, b"", "it can't be read as JSON"),
        (BY_MEMBER, 200, b" <html>no</html>", "it is a page or XML, not JSON"),
        (BY_MEMBER, 200, b'{"payments": [], "payments": [{"a": 1}]}', "it has the member payments more than once"),
        (BY_MEMBER, 200, b'{"payments": [], "\\u0070ayments": []}', "it has the member payments more than once"),
        (BY_TWO, 200, b'{"a": {"n": []}, "a": {"n": []}}', "it has the member a more than once"),
        (BY_MEMBER, 200, b'{"payments": []' + b" " * LOOKED_AT_BYTES + b"}", "it is longer than 64 KiB"),
        (BY_MEMBER, 404, b'{"payments": []}', "status is not 200"),
        (BY_MEMBER, 206, b'{"payments": []}', "status is not 200"),
        (BY_MEMBER, 503, b'{"payments": []}', "status is not 200"),
        (
            BY_TEXT,
            404,
            b"no path",
            "no found: status is not 200; no not_found: the text that the rule names is not in it",
        ),
        (BY_TEXT, 401, b"", "no found: status is not 200; no not_found: status is not 404"),
        (BY_TWO, 200, b'{"a": {"b": 1, "n": []}}', "it means found and not found by the rule's inquiry"),
        (
            BY_TWO,
            200,
            b'{"a": {"b": [], "n": ""}}',
            "no found: a.b is an empty list; no not_found: a.n is an empty text",
        ),
        (BY_TWO, 200, b'{"a": {"b": 0, "n": 7}}', "no found: a.b is 0; no not_found: a.n is a number"),
        (BY_TWO, 200, b'{"a": {"b": null, "n": true}}', "no found: a.b is null; no not_found: a.n is true"),
    ],
)
def test_all_else_is_unclear(answers: Answers, status: int, body: bytes, why: str) -> None:
    """And it says why, without a value of the bank's."""
    assert read_answer(section(answers), status, body) == Reading(Verdict.UNCLEAR, why)


@pytest.mark.parametrize("answers", [BY_MEMBER, ((200, "", "yes"), (200, "", "no"))])
def test_a_compressed_answer_is_unclear(answers: Answers) -> None:
    """Its bytes are not what the bank says; it was asked for none."""
    reading = read_answer(section(answers), 200, b'{"payments": []} no', encoded=True)

    assert reading == Reading(Verdict.UNCLEAR, "it is compressed, which was not asked for")


def test_a_member_that_is_there_twice_elsewhere_does_not_matter() -> None:
    """The bank's JSON is known to be careless; what counts is the way to the member."""
    body = json.dumps({"payments": []})[:-1] + ', "x": 1, "x": 2}'

    assert read_answer(section(BY_MEMBER), 200, body.encode()) == NOT_FOUND
