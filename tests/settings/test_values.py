from pathlib import Path

import pytest

from proxy.link.codec import decode, encode
from proxy.link.messages import Serve
from proxy.settings.load import load
from proxy.settings.model import Settings
from proxy.settings.values import digest, masked, snapshot_of
from tests.settings.support import CALLER, load_text, plain


def whole(folder: Path, text: str, **environ: str) -> Settings:
    """Return the settings of *text*."""
    loaded = load_text(folder, text, environ=environ)
    assert loaded.settings is not None, "\n".join(map(str, loaded.findings))
    return loaded.settings


def test_a_snapshot(tmp_path: Path) -> None:
    """A worker gets parsed URLs, effective scopes and absolute paths, and survives the way over the link."""
    text = plain(
        ("https://api.payments.jpmorgan.com", "https://API.payments.jpmorgan.com/base/"),
        ("[server]", '[server]\nhosts = ["Proxy.Example"]'),
        ('flavor = "basic"', 'flavor = "basic"\nextra_parameters = {b = "2", a = "1"}'),
        more='\n[[routes]]\nname = "own"\npath = "/a/*"\nupstream = "payments"\ncredential = "login"\nscope = "mine"\n'
        'remint_on = [{status = 403, body = "GCA-001"}]\n' + CALLER.replace("ab", "AB"),
    )
    snapshot = snapshot_of(whole(tmp_path, text), instance="pay-1")

    assert (snapshot.environment, snapshot.instance) == ("client-testing", "pay-1")
    assert snapshot.data_directory == str(tmp_path / "payproxy-data")
    assert snapshot.server.loopback
    assert snapshot.server.hosts == ("proxy.example",)
    upstream = snapshot.upstreams[0]
    assert (upstream.scheme, upstream.host, upstream.port, upstream.prefix) == (
        "https",
        "api.payments.jpmorgan.com",
        443,
        "/base",
    )
    assert snapshot.credentials[0].extra_parameters == (("a", "1"), ("b", "2"))
    assert [route.scope for route in snapshot.routes] == ["jpm:payments:sandbox", "mine"]
    assert snapshot.routes[1].path == "/a/*"
    assert (snapshot.routes[1].remint_on[0].status, snapshot.routes[1].remint_on[0].body) == (403, "GCA-001")
    assert snapshot.callers[0].api_key_sha256 == ("ab" * 32,)
    assert snapshot.request_log.intent_methods == ("POST", "PUT", "PATCH", "DELETE")
    order = Serve(snapshot, worker="w0", workers=1, sockets=())
    assert decode(encode(order)) == order


def parameters(text: str) -> str:
    """Return a configuration whose credential sends the fields *text* of an inline table too."""
    return plain(('flavor = "basic"', f'flavor = "basic"\nextra_parameters = {{{text}}}'))


def test_a_snapshot_has_no_secret(tmp_path: Path) -> None:
    """What goes to a worker can't sign and can't authenticate."""
    text = parameters('password = "canary"')
    settings = whole(tmp_path, text, PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET="canary")

    assert b"canary" not in encode(Serve(snapshot_of(settings, instance="x"), worker="w0", workers=1, sockets=()))


def test_tokens_of_two_passwords_are_told_apart(tmp_path: Path) -> None:
    """A worker knows a field that is a secret by its hash."""
    one, other = (
        snapshot_of(whole(tmp_path, parameters(f'password = "{text}"')), instance="x").credentials[0].extra_parameters
        for text in ("a", "b")
    )

    assert one != other


def test_the_digest_names_the_configuration(tmp_path: Path) -> None:
    """It changes with every value but not with secrets, comments or the order of tables."""
    first = digest(whole(tmp_path, plain(), PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET="one"))

    assert len(first) == 16
    assert int(first, 16) >= 0
    assert first == digest(whole(tmp_path, plain() + "# x\n", PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET="two"))
    assert first != digest(whole(tmp_path, plain(("/v2", "/v3")), PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET="one"))
    explicit = plain(("[server]", "[server]\nexchange_timeout = 200"))
    assert first == digest(whole(tmp_path, explicit, PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET="one"))


def test_the_masked_view(tmp_path: Path) -> None:
    """Every effective value stands under its key; secrets and password hashes read ***."""
    text = plain(
        ("[admin]", '[admin]\noperators = {alice = "$scrypt$ln=15,r=8,p=1$c2FsdHNhbHRzYWx0$canarycanarycanarycanary"}')
    )
    view = masked(whole(tmp_path, text, PAYPROXY_CREDENTIALS__LOGIN__CLIENT_SECRET="canary"))

    assert view["admin"]["operators"] == {"alice": "***"}
    assert view["credentials"]["login"]["client_secret"] == "***"
    assert view["credentials"]["login"]["token_url"].startswith("https://id.payments.")
    assert "canary" not in str(view)


def test_a_socket_is_loopback(tmp_path: Path) -> None:
    """A worker is told that nobody from outside reaches a Unix socket."""
    text = plain(('"127.0.0.1:8080"', '"unix:/run/x.sock"'))
    assert snapshot_of(whole(tmp_path, text), instance="x").server.loopback

    text = plain(('"127.0.0.1:8080"', '"0.0.0.0:8080"'), more=CALLER)
    assert not snapshot_of(whole(tmp_path, text), instance="x").server.loopback


def test_every_example_makes_a_snapshot(tmp_path: Path) -> None:
    """Nothing in a configuration without errors can fail on its way to a worker."""
    loaded = load(
        Path(__file__).parents[2] / "config" / "demo.toml",
        environ={"PAYPROXY_CREDENTIALS__MOCK__CLIENT_SECRET": "x"},
        cwd=tmp_path,
        secrets_directory=tmp_path,
    )

    assert loaded.settings is not None
    assert snapshot_of(loaded.settings, instance="demo").routes


@pytest.mark.parametrize(
    "name",
    ["client_secret2", "password", "Passwd", "subject_token", "assertion", "x-api-key", "subscriptionKey", "pin"],
)
def test_a_field_named_like_a_secret_is_masked(tmp_path: Path, name: str) -> None:
    """Beside one that is not, which stays readable."""
    view = masked(whole(tmp_path, parameters(f'{name} = "canary", realm = "payments", subject_token_type = "jwt"')))

    shown = view["credentials"]["login"]["extra_parameters"]
    assert shown == {name: "***", "realm": "payments", "subject_token_type": "jwt"}
