import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import payproxy
from proxy.clock import SystemClock
from proxy.migration.pin import RetryPin, retry_digest
from proxy.migration.side import Side
from proxy.migration.state import NEW, Document
from proxy.migration.stores.file import FileStore
from proxy.migration.stores.pins import PinFile
from tests.support.two_rules import two_rules

TEXT = two_rules(migration="move", modern=', upstream = "new-bank"') + (
    '\n[upstreams.new-bank]\nurl = "https://api-ms.payments.jpmorgan.com:8443"\n'
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configuration, and an instance's data directory in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "payproxy.toml").write_text(TEXT)
    (tmp_path / "payproxy-data").mkdir()
    return tmp_path


def explained(*arguments: str) -> dict[str, Any]:
    """Return what is said about a request, as JSON."""
    done = asked(*arguments, "--json")
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def asked(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(payproxy, ["explain", *arguments])


def weigh(folder: Path, weight: int, **changes: Any) -> None:
    """Let the instance have *weight*."""
    state = NEW.at(weight, who="me", when=1.0, reason="test")
    if "held" in changes:
        state = state.holding(changes["held"], who="guard", when=2.0, reason="test")
    FileStore(folder / "payproxy-data").save(Document(states={"move": state}))


def test_the_facade_takes_its_paths_before_any_rule(folder: Path) -> None:
    """A rule for all paths would be the wrong answer."""
    more = '[facade]\npaths = ["/token"]\n[callers.old]\nfacade_client_id = "o"\napi_key_sha256 = ["KEY"]\n'
    (folder / "payproxy.toml").write_text(TEXT.replace('"/closed"', '"/"') + more.replace("KEY", "ab" * 32))

    assert explained("POST", "/token?x") == {"facade": "/token?x"}


def test_a_rule_without_migration(folder: Path) -> None:
    """Rule, credential, audience and URL are said; nothing about sides that there are not."""
    answer = explained("get", "/closed/x?y=1", "--caller", "crm")

    assert answer["route"] == "closed"
    assert answer["rule"] == "GET /closed"
    assert (answer["credential"], answer["audience"], answer["upstream"]) == ("login", "own", "bank")
    assert answer["url"] == "https://api.payments.jpmorgan.com/base/closed/x?y=1"
    assert (answer["side"], answer["why"]) == ("", "the route's own credential")
    assert "weight" not in answer
    assert not list((folder / "payproxy-data").iterdir())


def test_a_refusal_is_said_with_its_code(folder: Path) -> None:
    """What would be answered, and exit code 1."""
    assert folder
    for arguments, code in (
        (["GET", "/none", "--caller", "erp"], "no_route"),
        (["POST", "/closed", "--caller", "erp"], "method_not_allowed"),
        (["GET", "/closed", "--caller", "erp"], "caller_not_allowed"),
        (["GET", "/payment"], "403 caller_unauthenticated"),
        (["GET", "/payment", "-H", "X-Payproxy-Key=wrong"], "403 caller_unauthenticated"),
        (["CONNECT", "/closed"], "bad_request"),
        (["GET", "/closed/%2e"], "bad_request"),
        (["GET", "/closed", "--header", "a b=c"], "bad_request"),
    ):
        done = asked(*arguments)
        assert done.exit_code == 1, done.output
        assert code in done.stdout
        assert "Nothing would be sent" in done.stdout


def test_an_encoded_body_is_not_signed(folder: Path) -> None:
    """The 415 that the proxy answers, for a request that has a body."""
    signature = 'audience = "JPMC:URI:RS-1"\nsignature = { private_key_file = "sign.key" }\n'
    rules = TEXT.replace('audience = "JPMC:URI:RS-1"\n', signature, 1)
    (folder / "payproxy.toml").write_text(rules)
    asked_for = ("POST", "/payment/x", "--caller", "erp")
    done = asked(*asked_for, "--header", "Content-Encoding=gzip")
    assert (done.exit_code, "415 body_encoded" in done.stdout) == (1, True), done.output
    for header in ("Content-Encoding=identity", "Content-Type=text/xml"):
        assert "a JWS" in explained(*asked_for, "--header", header)["body"]
    assert explained("GET", "/payment/x", "--caller", "erp", "--header", "Content-Encoding=gzip")["route"]
    assert explained(*asked_for, "-H", "Content-Encoding=gzip", "-H", "Content-Length=0")["route"]


def test_before_anything_moved_it_is_legacy(folder: Path) -> None:
    """Without a state the weight is 0, and nothing is written for having asked."""
    answer = explained("POST", "/payment/v2", "--caller", "erp", "--header", "Idempotency-Key=a")

    assert (answer["side"], answer["why"], answer["migration"], answer["weight"]) == ("legacy", "weight 0", "move", "0")
    assert (answer["credential"], answer["upstream"], answer["fallback"]) == ("adfs", "bank", "")
    assert not list((folder / "payproxy-data").iterdir())


def test_the_instances_weight_decides(folder: Path) -> None:
    """Modern has another URL, and legacy behind it."""
    weigh(folder, 100)
    answer = explained("POST", "/payment/v2", "--caller", "erp")

    assert (answer["side"], answer["why"], answer["weight"]) == ("modern", "weight 100", "100")
    assert (answer["credential"], answer["audience"]) == ("login", "jpm:uri:prod:payments")
    assert answer["url"] == "https://api-ms.payments.jpmorgan.com:8443/payment/v2"
    assert answer["fallback"] == "legacy, adfs at https://api.payments.jpmorgan.com/base/payment/v2"


def test_pins_and_the_guard_are_said(folder: Path) -> None:
    """Whoever is held or pinned learns why."""
    weigh(folder, 50, held="erp")

    assert explained("GET", "/payment", "--caller", "erp")["why"] == "the guard holds this caller on legacy"
    crm = explained("GET", "/payment", "--caller", "crm")
    assert (crm["side"], crm["why"]) == ("modern", "the caller is pinned to modern")


def test_a_retry_is_recognised(folder: Path) -> None:
    """With its Idempotency-Key it goes where the first try went; the pins' file is left as it is."""
    weigh(folder, 0)
    now = SystemClock().now()
    pins = PinFile(folder / "payproxy-data")
    pins.load(now=now)
    digest = retry_digest("move", "erp", "k1")
    assert pins.keep({digest: RetryPin(Side.MODERN, "new-bank", now + 60)}, now=now)
    before = pins.path.read_bytes()
    answer = explained("POST", "/payment", "--caller", "erp", "--header", "idempotency-key=k1")
    other = explained("POST", "/payment", "--caller", "erp", "-H", "Idempotency-Key: k2")

    assert (answer["side"], answer["fallback"]) == ("modern", "")
    assert "earlier try" in answer["why"]
    assert other["side"] == "legacy"
    assert pins.path.read_bytes() == before


def test_a_header_that_decides_can_be_given(folder: Path) -> None:
    """By NAME=VALUE; without it the why says what is missing."""
    text = TEXT.replace("[migrations.move]", '[migrations.move]\nsticky = "header:X-Batch"')
    (folder / "payproxy.toml").write_text(text)
    weigh(folder, 50)
    erp = ("GET", "/payment", "--caller", "erp")
    sides = {explained(*erp, "--header", f"x-batch=a=b{at}")["side"] for at in range(12)}

    assert sides == {"legacy", "modern"}
    assert "no X-Batch" in explained(*erp)["why"]


def test_single_requests_have_no_side_before_they_come(folder: Path) -> None:
    """What is shown is one of them; a method that is not spread has its side."""
    text = TEXT.replace("[migrations.move]", '[migrations.move]\nsticky = "request"')
    (folder / "payproxy.toml").write_text(text)
    weigh(folder, 50)

    assert "each GET by itself" in explained("GET", "/payment", "--caller", "erp")["why"]
    assert "cohort" in explained("POST", "/payment", "--caller", "erp")["why"]
    assert "pinned" in explained("GET", "/payment", "--caller", "crm")["why"]


def test_a_state_that_cannot_be_read_is_said(folder: Path) -> None:
    """What is not known is not guessed in silence, and a retry would be refused."""
    (folder / "payproxy-data" / "migrations.json").write_text("{")
    done = asked("GET", "/payment", "--caller", "erp")
    assert done.exit_code == 0
    assert "weights are taken as 0" in done.stderr

    refused = asked("POST", "/payment", "--caller", "erp", "--header", "request-id=1")
    assert refused.exit_code == 1
    assert "side_unknown" in refused.stdout


def test_a_foreign_host_and_a_web_page_are_refused_as_by_the_proxy(folder: Path) -> None:
    """If the request has such a header."""
    (folder / "payproxy.toml").write_text(f'{TEXT}\n[server]\nhosts = ["pay.corp"]\n')
    foreign = asked("GET", "/payment", "-H", "Host=evil.example")
    page = asked("GET", "/payment", "-H", "Origin=https://evil.example")

    assert (foreign.exit_code, foreign.stdout[:15]) == (1, "421 bad_request")
    assert (page.exit_code, page.stdout[:19]) == (1, "403 browser_refused")
    assert explained("GET", "/payment", "--caller", "erp", "-H", "Host=pay.corp")["route"] == "payments"


def test_a_key_in_the_headers_identifies_its_caller(folder: Path) -> None:
    """As it does at the proxy; without one the same configuration refuses the request."""
    key = hashlib.sha256(b"the-key").hexdigest()
    (folder / "payproxy.toml").write_text(f'{TEXT}\n[callers.till]\napi_key_sha256 = ["{key}"]\n')

    assert explained("GET", "/payment", "-H", "X-Payproxy-Key=the-key")["route"] == "payments"
    assert '"caller_unauthenticated"' in asked("GET", "/payment", "--json").stdout


def test_people_read_why_other_rules_do_not_take_it(folder: Path) -> None:
    """Below what it gets; with many rules the first of them."""
    more = "".join(
        f'[[routes]]\nname = "r{number}"\npath = "/r{number}"\nupstream = "bank"\ncredential = "login"\n'
        for number in range(30)
    )
    (folder / "payproxy.toml").write_text(TEXT.replace("[migrations", f"{more}[migrations"))
    done = asked("GET", "/payment", "--caller", "erp")

    assert (
        "rules that do not take it\n  closed  segment 1 of the path is payment, where the rule has closed"
        in done.stdout
    )
    assert "  and 11 more (--json)" in done.stdout
    assert len(explained("GET", "/payment", "--caller", "erp")["rules"]) == 32


def test_usage(folder: Path) -> None:
    """A header without a value and a caller that is none are usage errors."""
    assert folder
    assert asked("GET", "/payment", "--header", "x").exit_code == 2
    assert asked("GET", "/payment", "--caller", "nobody").exit_code == 2
