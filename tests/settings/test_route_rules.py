from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings import route_rules
from proxy.settings.addresses import segments
from proxy.settings.route_rules import covers
from tests.settings.support import load_text, one_finding, plain

RULE = (
    '\n[[routes]]\nname = "{name}"\npath = "{path}"\nmethods = {methods}\nupstream = "payments"\ncredential = "login"\n'
)


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        (
            'upstream = "payments"',
            'upstream = "paymnts"',
            "routes.payments.upstream",
            'no upstream is called "paymnts"',
        ),
        (
            'credential = "login"',
            'credential = "logon"',
            "routes.payments.credential",
            'no credential is called "logon"',
        ),
        ("[[routes]]", '[[routes]]\ncallers = ["x"]', "routes.payments.callers", 'no caller is called "x"'),
        ("[admin]", '[admin]\nready_requires = ["x"]', "admin.ready_requires", 'no credential is called "x"'),
        (
            "[[routes]]",
            '[[routes]]\nstrip_prefix = "/pay"',
            "routes.payments.strip_prefix",
            "not a beginning of the rule's path",
        ),
        ("[[routes]]", '[[routes]]\nstrip_prefix = "/payment/v2/x"', "routes.payments.strip_prefix", "not a beginning"),
        ("[server]", "[callers.erp]\n[server]", "callers.erp", "no proof"),
        (
            "[server]",
            '[callers.e]\ncertificate_subject = "CN=e"\n[server]',
            "callers.e.certificate_subject",
            "without mutual TLS",
        ),
        (
            'client_secret_file = "secret"',
            "",
            "credentials.login.client_secret_file",
            "client_secret_basic needs a client secret",
        ),
        (
            '"basic"',
            '"basic"\nextra_parameters = {scope = "x"}',
            "credentials.login.extra_parameters.scope",
            "sets this form field",
        ),
        (
            '"basic"',
            '"basic"\nauth_method = "tls_client_auth"',
            "credentials.login.client_certificate_file",
            "client certificate",
        ),
        ('"basic"', '"adfs"\nprivate_key_file = "k"\nkey_id = "k"', "credentials.login.token_url", "is missing"),
        ('"basic"', '"jwt"\nkey_id = "k"', "credentials.login.private_key_file", "needs a private key"),
        ('"basic"', '"jwt"\nprivate_key_file = "k"', "credentials.login.certificate_file", "would have no kid"),
    ],
)
def test_one_fault(tmp_path: Path, old: str, new: str, key: str, what: str) -> None:
    """Each thing that sections must be to each other is one finding when it is not."""
    finding = one_finding(load_text(tmp_path, plain((old, new))))

    assert finding.key == key
    assert what in finding.what
    assert finding.line
    assert finding.fix


def test_references_to_broken_tables_are_no_faults(tmp_path: Path) -> None:
    """A table that can't be read is complained about once, not again by all who name it."""
    text = plain(("url =", "ulr ="), more="")

    assert {one.key for one in load_text(tmp_path, text).findings} == {
        "upstreams.payments.url",
        "upstreams.payments.ulr",
    }


def test_a_broken_value_is_not_missing_too(tmp_path: Path) -> None:
    """A key that is there and wrong is not complained about as if it were not there."""
    text = plain(('client_secret_file = "secret"', "client_secret_file = 1"))

    assert one_finding(load_text(tmp_path, text)).what == "is not a string"


def test_two_rules_with_one_name(tmp_path: Path) -> None:
    """Records and metrics tell rules apart by their names."""
    finding = one_finding(load_text(tmp_path, plain(more=RULE.format(name="payments", path="/x", methods="[]"))))

    assert finding.what == "another rule has the same name"
    assert finding.line == 24


@pytest.mark.parametrize(
    ("first", "second", "covered"),
    [
        (("/a", "[]"), ("/a", "[]"), True),
        (("/a", "[]"), ("/a/b", "[]"), True),
        (("/", "[]"), ("/a", '["GET"]'), True),
        (("/a/*", "[]"), ("/a/b", "[]"), True),
        (("/a/*", "[]"), ("/a/*/c", "[]"), True),
        (("/a", '["GET", "POST"]'), ("/a", '["GET"]'), True),
        (("/a/b", "[]"), ("/a", "[]"), False),
        (("/a/b", "[]"), ("/a/*", "[]"), False),
        (("/a/*", "[]"), ("/a", "[]"), False),
        (("/a", "[]"), ("/ab", "[]"), False),
        (("/a", '["GET"]'), ("/a", "[]"), False),
        (("/a", '["GET"]'), ("/a", '["GET", "POST"]'), False),
    ],
)
def test_covered_rules(tmp_path: Path, first: tuple[str, str], second: tuple[str, str], covered: bool) -> None:  # noqa: FBT001 - a table's column
    """A rule that an earlier one leaves nothing for is an error; one that it leaves something for is not."""
    more = "".join(
        RULE.format(name=f"r{at}", path=path, methods=methods) for at, (path, methods) in enumerate((first, second))
    )
    findings = load_text(tmp_path, plain(more=more)).findings

    assert [one.key for one in findings] == (["routes.r1.path"] if covered else [])
    assert all('"r0" before it takes' in one.what for one in findings)


def test_many_rules_are_not_compared_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 400 rules that took two thirds of a reload, and of the console's page."""
    divided: list[str] = []

    def counting(path: str) -> tuple[str, ...] | None:
        divided.append(path)
        return segments(path)

    monkeypatch.setattr(route_rules, "segments", counting)
    more = "".join(RULE.format(name=f"r{number}", path=f"/x/p{number}", methods="[]") for number in range(400))

    assert load_text(tmp_path, plain(more=more)).findings == ()
    assert len(divided) < 10 * 400


paths = st.lists(st.sampled_from(["a", "b", "*"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(paths, max_size=12), paths)
def test_the_wider_rules_are_those_that_cover_the_path(earlier: list[str], path: str) -> None:
    """In their order, as if each were compared."""
    text = "".join(RULE.format(name=f"r{number}", path=one, methods="[]") for number, one in enumerate(earlier))
    text += RULE.format(name="last", path=path, methods="[]")
    with TemporaryDirectory() as folder:
        findings = load_text(Path(folder), plain(more=text)).findings

    names = [f'"r{number}"' for number, one in enumerate(earlier) if covers(one, path)]
    said = [one.what for one in findings if one.key == "routes.last.path"]
    assert said == (
        [f"no request can reach this rule: {' and '.join(names)} before it takes the same path and methods"]
        if names
        else []
    )


def test_a_rule_covered_by_two(tmp_path: Path) -> None:
    """Two earlier rules that take one method each leave nothing for a rule with both."""
    more = "".join(
        RULE.format(name=name, path="/a", methods=methods)
        for name, methods in (("get", '["GET"]'), ("post", '["POST"]'), ("both", '["GET", "POST"]'))
    )

    assert '"get" and "post" before it' in one_finding(load_text(tmp_path, plain(more=more))).what


KEY = "ab" * 32


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (f'api_key_sha256 = ["{KEY}"]', f'api_key_sha256 = ["{"cd" * 32}", "{KEY.upper()}"]', "has the same key"),
        ('networks = ["10.0.0.0/8"]', 'networks = ["::1/128", "10.0.0.0/8"]', "nothing distinguishes this caller from"),
        ('networks = ["10.0.0.0/8"]', 'networks = ["10.1.0.0/16"]', ""),
        ('networks = ["10.0.0.0/8"]', f'networks = ["10.0.0.0/8"]\napi_key_sha256 = ["{KEY}"]', ""),
        (
            f'networks = ["10.0.0.0/8"]\napi_key_sha256 = ["{"cd" * 32}"]',
            f'networks = ["10.0.0.0/8"]\napi_key_sha256 = ["{KEY}"]',
            "",
        ),
    ],
)
def test_two_callers(tmp_path: Path, one: str, other: str, what: str) -> None:
    """Two callers that a request could match equally well are an error; a more specific one is not."""
    named = ("[server]", '[server]\nhosts = ["payproxy.corp"]')
    findings = load_text(tmp_path, plain(named, more=f"\n[callers.a]\n{one}\n[callers.b]\n{other}\n")).findings

    assert [finding.key.startswith("callers.b.") and what in finding.what for finding in findings] == [True] * bool(
        what
    )


def test_two_callers_with_one_subject(tmp_path: Path) -> None:
    """A subject belongs to one caller."""
    subject = 'certificate_subject = "CN=x"'
    tls = '[server]\nclient_ca_file = "ca"\ncertificate_file = "c"\nkey_file = "k"'
    text = plain(("[server]", tls), more=f"\n[callers.a]\n{subject}\n[callers.b]\n{subject}\n")

    assert one_finding(load_text(tmp_path, text)).key == "callers.b.certificate_subject"
