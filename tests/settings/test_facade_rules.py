from pathlib import Path

import pytest

from proxy.settings.values import snapshot_of
from tests.settings.support import load_text, one_finding, plain

KEY = "ab" * 32
FACADE = """
[facade]
paths = ["/adfs/oauth2/token", "/oauth2/token"]

[callers.old]
facade_client_id = "CC-1"
assertion_certificate_files = ["old.crt", "/etc/new.crt"]
"""


def test_a_facade_without_faults(tmp_path: Path) -> None:
    """Workers get its paths and absolute files; a client of it needs no other proof."""
    loaded = load_text(tmp_path, plain(more=FACADE))
    assert loaded.findings == ()
    assert loaded.settings is not None
    keys = {"old": (("c0ffee", 65537),)}
    snapshot = snapshot_of(loaded.settings, instance="x", assertion_keys=keys)

    assert snapshot.facade is not None
    assert snapshot.facade.paths == ("/adfs/oauth2/token", "/oauth2/token")
    assert (snapshot.facade.token_lifetime, snapshot.facade.signing_key_files) == (3600, ())
    assert (snapshot.callers[0].facade_client_id, snapshot.callers[0].assertion_keys) == ("CC-1", keys["old"])
    assert loaded.settings.callers["old"].assertion_certificate_files == (str(tmp_path / "old.crt"), "/etc/new.crt")


def test_without_paths_there_is_no_facade(tmp_path: Path) -> None:
    """Nothing of it reaches a worker."""
    loaded = load_text(tmp_path, plain(more="\n[facade]\ntoken_lifetime = 600\n"))
    assert loaded.settings is not None, loaded.findings
    assert snapshot_of(loaded.settings, instance="x").facade is None


def test_a_rule_for_all_paths_leaves_the_facade_its_own(tmp_path: Path) -> None:
    """`init` writes path = "/", and the facade's paths go first."""
    assert load_text(tmp_path, plain(("/payment/v2", "/"), more=FACADE)).findings == ()


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ('"/oauth2/token"]', '"oauth2/token"]', "facade.paths", "not made of whole segments"),
        ('"/oauth2/token"]', '"/"]', "facade.paths", "not made of whole segments"),
        ('"/oauth2/token"]', '"/oauth2/*"]', "facade.paths", "not made of whole segments"),
        ('"/oauth2/token"]', '"/oauth2/token/"]', "facade.paths", "not made of whole segments"),
        ('"/oauth2/token"]', '"/adfs/oauth2/token"]', "facade.paths", "is listed twice"),
        ('"/oauth2/token"]', '"/payment/v2"]', "facade.paths", 'rule "payments" takes /payment/v2 too'),
        ('"/oauth2/token"]', '"/payment/v2/token"]', "facade.paths", 'rule "payments" takes /payment/v2/token too'),
        ("[facade]", "[facade]\ntoken_lifetime = 59", "facade.token_lifetime", "too small"),
        ("[facade]", "[facade]\ntoken_lifetime = 86401", "facade.token_lifetime", "too large"),
        ("[facade]", "[facade]\nsigning_key_files = [1]", "facade.signing_key_files", "is not a string"),
        ('paths = ["/adfs/oauth2/token", "/oauth2/token"]', "", "callers.old.facade_client_id", "there is no facade"),
        (
            'assertion_certificate_files = ["old.crt", "/etc/new.crt"]',
            "",
            "callers.old.facade_client_id",
            "no way to authenticate",
        ),
        (
            'facade_client_id = "CC-1"',
            f'api_key_sha256 = ["{KEY}"]',
            "callers.old.assertion_certificate_files",
            "a client that has no id",
        ),
    ],
)
def test_one_fault_of_a_facade(tmp_path: Path, old: str, new: str, key: str, what: str) -> None:
    """Each thing that the facade and its clients must be is one finding when it is not."""
    text = plain(more=FACADE)
    assert old in text
    finding = one_finding(load_text(tmp_path, text.replace(old, new, 1)))

    assert finding.key.removesuffix("[0]").removesuffix("[1]") == key
    assert what in finding.what
    assert finding.fix


@pytest.mark.parametrize(
    ("server", "hosts"),
    [
        ('hosts = ["PayProxy.corp", "[fd00::1]"]\nlisten = "0.0.0.0:8080"', ("payproxy.corp", "fd00::1")),
        ('listen = "127.0.0.2:8080"', ("localhost", "127.0.0.1", "::1")),
        ('listen = "10.1.2.3:8080"', ("10.1.2.3",)),
        ('listen = "0.0.0.0:8080"', ()),
        ('listen = "[::]:8080"', ()),
        ('listen = "unix:/run/payproxy.sock"', ()),
    ],
)
def test_the_facades_own_names(tmp_path: Path, server: str, hosts: tuple[str, ...]) -> None:
    """They come from the configuration, never from a request; where there are none, `check` says what to set."""
    change = ('listen = "127.0.0.1:8080"', server)
    loaded = load_text(tmp_path, plain(change, more=FACADE))

    if hosts:
        assert loaded.settings is not None, loaded.findings
        snapshot = snapshot_of(loaded.settings, instance="x")
        assert snapshot.facade is not None
        assert (snapshot.facade.own_hosts, snapshot.facade.own_port) == (hosts, 8080)
    else:
        assert [one.key for one in loaded.errors] == ["server.hosts"]
        listed = FACADE.replace("[callers", 'accepted_assertion_audiences = ["https://a.corp/oauth2/token"]\n[callers')
        assert not load_text(tmp_path, plain(change, more=listed)).errors


def test_a_client_id_is_one_callers(tmp_path: Path) -> None:
    """Whoever gets a token is one caller."""
    more = f'[callers.new]\nfacade_client_id = "CC-1"\napi_key_sha256 = ["{KEY}"]\n'
    finding = one_finding(load_text(tmp_path, plain(more=FACADE + more)))

    assert finding.key == "callers.new.facade_client_id"
    assert 'caller "old" has the same' in finding.what


def test_two_clients_of_one_network_are_told_apart(tmp_path: Path) -> None:
    """Each proves itself by its token, so the same network is no fault."""
    network = 'networks = ["10.0.0.0/8"]\n'
    more = f'{network}[callers.new]\nfacade_client_id = "CC-2"\nassertion_certificate_files = ["new.crt"]\n{network}'
    assert load_text(tmp_path, plain(more=FACADE + more)).findings == ()


def test_a_key_is_proof_enough(tmp_path: Path) -> None:
    """A client that sends its key as client_secret needs no certificate."""
    text = plain(more=FACADE).replace(
        'assertion_certificate_files = ["old.crt", "/etc/new.crt"]', f'api_key_sha256 = ["{KEY}"]'
    )
    assert load_text(tmp_path, text).findings == ()
