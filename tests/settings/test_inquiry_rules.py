from pathlib import Path

import pytest

from tests.settings.support import load_text, one_finding, plain

PATH = "/payment/v2/payments?requestId={Request-Id}"
POST_ONLY = plain(("[[routes]]", '[[routes]]\nmethods = ["POST"]'))
NOT_FOUND = 'not_found = {status = 200, member = "payments"}'
ANSWERS = f'found = {{status = 200, member = "payments"}}, {NOT_FOUND}'


def inquiry(path: str = PATH, answers: str = ANSWERS, more: str = "") -> str:
    """Return the plain configuration with an inquiry of its only rule, and *more* at the end."""
    return plain(more=f'inquiry = {{path = "{path}", {answers}}}\n{more}')


def test_an_inquiry_is_read(tmp_path: Path) -> None:
    """Its header is one that the log keeps, in any case; statuses have defaults."""
    settings = load_text(tmp_path, inquiry(answers='not_found = {status = 404, body = "no such"}')).settings

    assert settings is not None
    one = settings.routes[0].inquiry
    assert (one.path, one.found.status, one.not_found.body) == (PATH, 200, "no such")


@pytest.mark.parametrize(
    "path",
    [
        "/payment/v2/payments",
        "/payment/v2/payments?requestId=1",
        "/payment/v2/{request-id}?a={request-id}",
        "/payment/v2/../x?a={request-id}",
        "/payment/v2/*?a={request-id}",
        "/payment/v2?a=x{request-id}",
        "/payment/v2?a={request-id}&{request-id}=b",
        "/payment/v2?a={request id}",
        "/payment/v2?a={request-id}#b",
        "https://elsewhere.example/payment/v2?a={request-id}",
        "//elsewhere.example/payment?a={request-id}",
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    """A caller's value may be the value of a query parameter, and nothing else."""
    finding = one_finding(load_text(tmp_path, inquiry(path)))

    assert finding.key == "routes.payments.inquiry.path"
    assert "requestId={Request-Id}" in finding.fix


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        (inquiry("/payment/v2/p?a={trace-id}"), "inquiry.path", "keeps no values of the header trace-id"),
        (inquiry("/other/p?a={request-id}"), "inquiry.path", "no rule serves a GET"),
        (inquiry(answers="not_found = {status = 404}"), "inquiry.not_found", "a status alone"),
        (inquiry(answers=NOT_FOUND), "inquiry.found", "would mean found too"),
        (inquiry("", ANSWERS), "inquiry", "has no path"),
        (inquiry(answers="not_found = {status = 503, body = 'x'}"), "inquiry.not_found.status", "too large"),
        (
            plain(("[[routes]]", '[[routes]]\nmethods = ["POST"]')) + inquiry().split(plain())[1],
            "inquiry.path",
            "no rule",
        ),
    ],
)
def test_one_fault(tmp_path: Path, text: str, key: str, what: str) -> None:
    """Each is one finding with its line."""
    finding = one_finding(load_text(tmp_path, text))

    assert finding.key == f"routes.payments.{key}"
    assert what in finding.what
    assert finding.line


@pytest.mark.parametrize(("audience", "fits"), [("", True), ("jpm:other", False)])
def test_an_inquiry_is_no_way_around_a_rule(tmp_path: Path, audience: str, fits: bool) -> None:  # noqa: FBT001
    """The rule that takes the GET has to send it to the same place with the same token."""
    reads = (
        '[[routes]]\nname = "reads"\npath = "/payment"\nupstream = "payments"\ncredential = "login"\n'
        f'audience = "{audience}"\n'
    )
    loaded = load_text(tmp_path, POST_ONLY + inquiry().removeprefix(plain()) + reads)

    assert [one.key for one in loaded.errors] == ([] if fits else ["routes.payments.inquiry.path"])
