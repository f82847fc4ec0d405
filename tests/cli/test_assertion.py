import json
import re
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.clock import SystemClock
from proxy.credentials.keys import load_certificate, thumbprint
from tests.cli.support import run
from tests.credentials.support_keys import make_pair, openssl

LOGIN = "https://login.jpmorgan.com/oauth2/token"
SUBJECT = "2f6c9a4e-client"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key, its certificate and a configuration that names them."""
    folder = tmp_path_factory.mktemp("assertion")
    make_pair(folder)
    assert run("init", "--flavor", "jwt", cwd=folder, env={"JPM_CLIENT_ID": SUBJECT}).returncode == 0
    return folder


def verified(text: str, folder: Path, *, audience: str = LOGIN) -> dict[str, Any]:
    """Return the claims of what was printed, checked by PyJWT with the certificate's key: one line, no white space."""
    token = text.removesuffix("\n")
    assert token.split() == [token]
    public = load_certificate(folder / "oauth.crt").public_key()
    claims: dict[str, Any] = jwt.decode(token, public, algorithms=["RS256"], audience=audience)  # type: ignore[arg-type]  # an RSA key
    return claims


def sha1(folder: Path) -> str:
    """Return openssl's thumbprint of the certificate, without its colons."""
    printed = openssl("x509", "-in", folder / "oauth.crt", "-noout", "-fingerprint", "-sha1")
    return printed.partition("=")[2].strip().replace(":", "")


def test_by_hand_with_the_certificate(folder: Path) -> None:
    """Signed with the key, named by the certificate's thumbprint, for the modern token URL, with a fresh jti."""
    call = ("assertion", "--private-key-file", "oauth.key", "--certificate", "oauth.crt", "--sub", SUBJECT)
    first, second = run(*call, cwd=folder), run(*call, cwd=folder)
    claims = verified(first.stdout, folder)

    assert (first.returncode, first.stderr) == (0, "")
    assert jwt.get_unverified_header(first.stdout.strip())["kid"] == sha1(folder)
    assert claims["iss"] == claims["sub"] == SUBJECT
    assert claims["exp"] - claims["iat"] == 60
    assert abs(claims["iat"] - SystemClock().now()) < 30
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", claims["jti"])
    assert claims["jti"] != verified(second.stdout, folder)["jti"]


def test_spelled_as_on_the_banks_page(folder: Path) -> None:
    """The sample's own `--private_key_file`, `--sub` and `--kid` work, beside aud, jti and lifetime."""
    done = run(
        *("assertion", "--private_key_file", "./oauth.key", "--sub", "testSub", "--kid", "AB12", "--jti", "id-1"),
        *("--aud", "https://id.example/token", "--lifetime", "30"),
        cwd=folder,
    )
    claims = verified(done.stdout, folder, audience="https://id.example/token")
    assert jwt.get_unverified_header(done.stdout.strip())["kid"] == "AB12"
    assert (claims["jti"], claims["sub"], claims["exp"] - claims["iat"]) == ("id-1", "testSub", 30)


def test_from_the_configuration(folder: Path) -> None:
    """The credential's client id, audience, lifetime and kid form are used."""
    env = {
        "PAYPROXY_CREDENTIALS__LOGIN__KEY_ID_FORMAT": "x5t#S256",
        "PAYPROXY_CREDENTIALS__LOGIN__ASSERTION_AUDIENCE": "https://login.jpmorgan.com/other",
        "PAYPROXY_CREDENTIALS__LOGIN__ASSERTION_LIFETIME": "120",
    }
    done = run("assertion", "login", "--json", cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    token = json.loads(done.stdout)["client_assertion"]
    claims = verified(token, folder, audience="https://login.jpmorgan.com/other")
    assert jwt.get_unverified_header(token)["kid"] == thumbprint(load_certificate(folder / "oauth.crt"), "x5t#S256")
    assert (claims["sub"], claims["exp"] - claims["iat"]) == (SUBJECT, 120)


def test_encrypted_key_with_its_passphrase_file(folder: Path, tmp_path: Path) -> None:
    """A PKCS#1 key encrypted with a passphrase signs, the passphrase comes from a 0600 file and is not shown."""
    key, word = tmp_path / "locked.key", tmp_path / "word"
    openssl(
        *("rsa", "-traditional", "-aes256", "-passout", "pass:canary-word", "-in", folder / "oauth.key", "-out", key)
    )
    key.chmod(0o600)
    word.touch(mode=0o600)
    word.write_text("canary-word\n")
    call = ("assertion", "--private-key-file", key, "--kid", "k", "--sub", "s")

    assert verified(run(*call, "--passphrase-file", word, cwd=folder).stdout, folder)["sub"] == "s"

    word.write_text("wrong-word")
    refused = run(*call, "--passphrase-file", word, cwd=folder)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "passphrase is wrong" in refused.stderr
    assert "wrong-word" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a CREDENTIAL"),
        (["--private-key-file", "oauth.key", "--kid", "k"], "--sub"),
        (["--private_key_file", "oauth.key", "--sub", "testSub"], "Thumbprint on the bank's Security page"),
        (["--private-key-file", "k", "--sub", "s", "--kid", "k", "--certificate", "c"], "not both"),
        (["login", "--kid", "k"], "--kid belongs to the form without CREDENTIAL"),
        (["--private-key-file", "k", "--sub", "s", "--kid", "k", "--lifetime", "9"], "--lifetime"),
        (["--private-key-file", "k", "--sub", "s", "--kid", "k", "--lifetime", "301"], "--lifetime"),
        (["logn"], 'did you mean "login"?'),
    ],
)
def test_usage_errors(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    """Whatever is missing, doubled or out of range ends with 2 and says what to give; nothing is printed as data."""
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(payproxy, ["assertion", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_foreign_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    """An assertion named by another key's certificate would be refused by the bank, so it is not made."""
    _, stranger = make_pair(tmp_path, name="stranger")
    call = ("assertion", "--private-key-file", "oauth.key", "--certificate", stranger, "--sub", "s")
    done = run(*call, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "belongs to another key" in done.stderr


def test_credential_that_signs_nothing(tmp_path: Path) -> None:
    """A client secret signs no assertion: said so, without the secret."""
    env = {"JPM_CLIENT_ID": "c", "JPM_CLIENT_SECRET": "canary-secret"}
    assert run("init", cwd=tmp_path, env=env).returncode == 0
    done = run("assertion", "login", cwd=tmp_path)
    assert done.returncode == 1
    assert "client_secret_basic" in done.stderr
    assert "canary-secret" not in done.stderr


def test_broken_configuration_ends_with_78(folder: Path, tmp_path: Path) -> None:
    """All faults of the configuration stand on stderr, and so does a key file that can't be used."""
    (tmp_path / "payproxy.toml").write_text('environment = "moon"\n[credentials.login]\nflavr = "jwt"\n')
    done = run("assertion", "login", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert "environment" in done.stderr
    assert "flavr" in done.stderr

    env = {"PAYPROXY_CREDENTIALS__LOGIN__PRIVATE_KEY_FILE": str(tmp_path / "gone.key")}
    done = run("assertion", "login", cwd=folder, env=env)
    assert (done.returncode, done.stdout) == (78, "")
    assert "gone.key: no such file" in done.stderr
