import datetime as dt
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.findings import Severity
from proxy.settings.load import across_sections
from proxy.settings.model import Settings
from proxy.settings.models import validated
from proxy.settings.schema import sections
from proxy.settings.validation import validate
from tests.settings.support import PLAIN, load_text, one_finding, plain


@pytest.mark.parametrize(
    ("old", "new", "key", "what", "fix"),
    [
        ("[server]", "[sever]", "sever", "unknown key", 'did you mean "server"?'),
        ('listen = "127.0.0.1:8080"', "workrs = 2", "server.workrs", "unknown key", 'did you mean "workers"?'),
        ('environment = "', '_secrets_dir = "x"\nenvironment = "', "_secrets_dir", "unknown key", "remove it"),
        (
            'flavor = "basic"',
            'flavor = "basic"\naudience = "a"',
            "credentials.login.audience",
            "unknown key",
            "[[routes]]",
        ),
        ("[server]", "[server]\nnonsense = 1", "server.nonsense", "unknown key", "known are"),
        ("url =", "nonsense = 1\nurl =", "upstreams.payments.nonsense", "unknown key", "known are"),
        (
            'name = "payments"',
            'name = "payments"\npaht = 1',
            "routes.payments.paht",
            "unknown key",
            'did you mean "path"?',
        ),
        ('name = "payments"\n', "", "routes.number-1.name", "is missing", "add it: "),
        ('environment = "client-testing"\n', "", "environment", "is missing", "add it: "),
        (
            "client-testing",
            "test",
            "environment",
            "is not one of the allowed values",
            'write "mock", "client-testing" or "production"',
        ),
        ("[server]", "[server]\nworkers = true", "server.workers", "is not an integer", "without quotes"),
        ("[server]", '[server]\nworkers = "1"', "server.workers", "is not an integer", "without quotes"),
        ("[server]", "[server]\nworkers = -1", "server.workers", "is too small", "at least 0"),
        ("[server]", "[server]\nexchange_timeout = 0", "server.exchange_timeout", "is too small", "more than 0"),
        ("[server]", "[server]\nexchange_timeout = inf", "server.exchange_timeout", "is not a finite number", "digits"),
        (
            "[server]",
            '[server]\nexchange_timeout = "1"',
            "server.exchange_timeout",
            "is not a number",
            "without quotes",
        ),
        (
            "[server]",
            "[server]\nallow_browsers = 1",
            "server.allow_browsers",
            "is neither true nor false",
            "true or false",
        ),
        ("[server]", '[server]\nhosts = "x"', "server.hosts", "is not a list", "["),
        ("[server]", "[server]\nhosts = [1]", "server.hosts[0]", "is not a string", "in quotes"),
        ("[server]", '[server]\nhosts = ["http://x"]', "server.hosts[0]", "a Host name is not valid", "without scheme"),
        (
            "[server]",
            '[server]\ntrusted_proxies = ["10.0.0.1/8"]',
            "server.trusted_proxies[0]",
            "bits set",
            "10.0.0.0/8",
        ),
        (
            "[server]",
            '[server]\ntrusted_proxies = ["x"]',
            "server.trusted_proxies[0]",
            "not written as ADDRESS/BITS",
            "10.",
        ),
        ('listen = "127.0.0.1:8080"', "listen = 8080", "server.listen", "is not a string", "in quotes"),
        ('[server]\nlisten = "127.0.0.1:8080"', 'server = "x"', "server", "is not a table", "[section]"),
        (
            "[upstreams.payments]\nurl = ",
            "[upstreams]\npayments = ",
            "upstreams.payments",
            "is not a table",
            "[section]",
        ),
        ("[upstreams.payments]", "[[upstreams]]", "upstreams", "is not a table", "[section]"),
        (
            "[upstreams.payments]",
            "[upstreams.Bank]\nurl = 'https://a.jpmorgan.com'\n[upstreams.payments]",
            "upstreams.Bank",
            "the name does not begin",
            "a-z",
        ),
        (
            "[upstreams.payments]",
            "[upstreams.7]\nurl = 'https://a.jpmorgan.com'\n[upstreams.payments]",
            "upstreams.7",
            "the name does not begin",
            "a-z",
        ),
        (
            "https://api.payments.jpmorgan.com",
            "https://api.payments.jpmorgan.com?a=b",
            "upstreams.payments.url",
            "query",
            "https",
        ),
        ("https://api.payments.jpmorgan.com", "", "upstreams.payments.url", "is empty", "https"),
        (
            "https://api.payments.jpmorgan.com",
            "https://x.jpmorgan.com/a//b",
            "upstreams.payments.url",
            "whole, plain",
            "PREFIX",
        ),
        (
            "https://api.payments.jpmorgan.com",
            "https://x.jpmorgan.com/*",
            "upstreams.payments.url",
            "whole, plain",
            "PREFIX",
        ),
        ("url =", "max_connections = 0\nurl =", "upstreams.payments.max_connections", "is too small", "at least 1"),
        ('"my-client"', '""', "credentials.login.client_id", "is empty", "write its value"),
        ('"my-client"', '"a\\nb"', "credentials.login.client_id", "line break", "one line"),
        (
            '"basic"',
            '"oauth"',
            "credentials.login.flavor",
            "is not one of the allowed values",
            '"basic", "jwt" or "adfs"',
        ),
        (
            '"basic"',
            '"basic"\nassertion_lifetime = 301',
            "credentials.login.assertion_lifetime",
            "is too large",
            "at most 300",
        ),
        ("/payment/v2", "/payment/v2/", "routes.payments.path", "whole segments", "final slash"),
        ("/payment/v2", "payment/v2", "routes.payments.path", "whole segments", "final slash"),
        ("/payment/v2", "/payment/../v2", "routes.payments.path", "whole segments", "final slash"),
        ("/payment/v2", "/payment/v*", "routes.payments.path", "whole segments", "final slash"),
        ("[[routes]]", '[[routes]]\nstrip_prefix = "/"', "routes.payments.strip_prefix", "whole segments", "/bank"),
        ("[[routes]]", '[[routes]]\nmethods = ["post"]', "routes.payments.methods[0]", "capital letters", '"POST"'),
        (
            "[[routes]]",
            '[[routes]]\nmethods = ["CONNECT"]',
            "routes.payments.methods[0]",
            "always refused",
            "from the list",
        ),
        (
            "[[routes]]",
            "[[routes]]\nremint_on = [{status = 500}]",
            "routes.payments.remint_on[0].status",
            "is too large",
            "499",
        ),
        (
            "[[routes]]",
            "[[routes]]\nremint_on = [{status = 200}]",
            "routes.payments.remint_on[0].status",
            "is too small",
            "400",
        ),
        (
            "[[routes]]",
            '[[routes]]\nremint_on = [{body = "x"}]',
            "routes.payments.remint_on[0].status",
            "is missing",
            "add it",
        ),
        (
            "[server]",
            '[request_log]\ndurability = "none"\n[server]',
            "request_log.durability",
            "is not one of",
            '"intent" or "async"',
        ),
        (
            "[server]",
            '[request_log]\nindex_headers = ["a b"]\n[server]',
            "request_log.index_headers[0]",
            "header name",
            "request-id",
        ),
        ("[server]", '[request_log]\nstore = "x"\n[server]', "request_log.store", "unknown key", "known are"),
        (
            "[server]",
            '[callers.erp]\napi_key_sha256 = ["ab"]\n[server]',
            "callers.erp.api_key_sha256[0]",
            "SHA-256",
            "callers new",
        ),
        ("[admin]", "[admin]\noperators = {alice = 1}", "admin.operators.alice", "must be a string", "as text"),
        ("client-testing", "...", "environment", "a placeholder was left in", "write the value"),
        (
            "https://api.payments.jpmorgan.com",
            "https://...",
            "upstreams.payments.url",
            "a placeholder was left in",
            "write",
        ),
        ('"payments"\npath', '"payments"\nupstream = "..."\npath', "", "not TOML", "correct the line"),
        ("[[routes]]", "[routes]", "routes", "is one table", "write [[routes]], in two brackets"),
        ("[[routes]]", "[routes.payments]", "routes", "is one table", "what it is called as its `name`"),
        ('"my-client"', '"<YOUR CLIENT ID>"', "credentials.login.client_id", "a placeholder was left in", "write"),
        ('upstream = "payments"', 'upstream = "..."', "routes.payments.upstream", "a placeholder was left in", "write"),
        (
            "[server]",
            '[callers.erp]\napi_key_sha256 = ["..."]\n[server]',
            "callers.erp.api_key_sha256",
            "a placeholder",
            "write",
        ),
    ],
)
def test_one_fault(tmp_path: Path, old: str, new: str, key: str, what: str, fix: str) -> None:  # noqa: PLR0917 - a table's columns
    """Each fault is one finding: the key, what is wrong, and how to mend it."""
    finding = one_finding(load_text(tmp_path, plain((old, new))))

    assert finding.severity is Severity.ERROR
    assert finding.key == key
    assert what in finding.what
    assert fix in finding.fix
    assert finding.line or key == "environment"


@pytest.mark.parametrize(
    ("new", "key"),
    [
        ('[request_log]\nstore = "..."\n[server]', "request_log.store"),
        ('[request_log]\nstore = ["a", "<YOUR STORE>"]\n[server]', "request_log.store"),
        ('[requestlog]\nstdout = "..."\nfile = "..."\n[server]', "requestlog"),
    ],
    ids=["a text", "a list", "a table"],
)
def test_an_unknown_key_is_none_of_a_placeholder(tmp_path: Path, new: str, key: str) -> None:
    """Who filled it in would have to be told of the key after that."""
    finding = one_finding(load_text(tmp_path, plain(("[server]", new))))

    assert (finding.key, finding.what) == (key, "unknown key")


@pytest.mark.parametrize(("old", "new"), [("client_id", "Client_id"), ("environment", "Environment")])
def test_keys_are_case_sensitive(tmp_path: Path, old: str, new: str) -> None:
    """A key in another case is unknown, and the right one is missing."""
    findings = load_text(tmp_path, plain((old, new))).findings

    assert {one.key.rpartition(".")[2]: one.what for one in findings} == {old: "is missing", new: "unknown key"}
    assert {f'did you mean "{old}"?'} <= {one.fix for one in findings}


def test_a_broken_rule_keeps_the_numbers_of_the_others(tmp_path: Path) -> None:
    """What is said about a rule is said about its own line, also behind one that can't be read."""
    rule = '\n[[routes]]\nname = "{}"\npath = "/{}"\nupstream = "{}"\ncredential = "login"\n'
    text = plain(more="\n[[routes]]\n" + rule.format("x", "x", "nowhere"))
    loaded = load_text(tmp_path, text)

    assert [(one.line, one.key) for one in loaded.findings if one.what != "is missing"] == [(28, "routes.x.upstream")]
    assert {one.key for one in loaded.findings if one.what == "is missing"} == {
        f"routes.number-2.{key}" for key in ("name", "path", "upstream", "credential")
    }


NAMES = st.sampled_from(sorted({key for _, model in sections() for key in model.model_fields} | {"login", "Bad", "x"}))
SCALARS = st.one_of(
    st.sampled_from(["", "...", "canary", "https://x", "/a", "jwt", "payments", "login", "POST"]),
    st.integers(-1, 500),
    st.booleans(),
    st.floats(),
    st.just(dt.date(2026, 1, 1)),
)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), ANYTHING), max_size=4))
def test_any_nonsense_is_survived(changes: list[tuple[list[str], Any]]) -> None:
    """Whatever stands where, the rest can be read, and there are complaints if anything is not as it should be."""
    values: dict[str, Any] = tomllib.loads(PLAIN)
    for key, value in changes:
        table = values
        for part in key[:-1]:
            inner = table.get(part)
            inner = inner[0] if isinstance(inner, list) and inner else inner
            table = inner if isinstance(inner, dict) else table.setdefault(part + "_", {})
        table[key[-1]] = value
    valid, readable, complaints = validate(values)

    complaints += across_sections(valid)
    assert len(valid.routes) == len(valid.settings.routes)
    assert all(one.what and one.fix and one.key for one in complaints)
    if not complaints:
        assert validated(Settings, values) == readable == valid.settings
