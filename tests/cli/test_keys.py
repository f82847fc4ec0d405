import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.credentials.csr import EXAMPLE_SUBJECT, Subject, new_key, public_pem, self_signed
from proxy.credentials.keys import THUMBPRINT_FORMS
from proxy.entropy import SystemEntropy
from tests.cli.support import run
from tests.credentials.support_keys import make_pair, openssl


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `keys new` leaves it."""
    folder = tmp_path_factory.mktemp("made") / "keys"
    assert run("keys", "new", "--out", folder, "--subject", EXAMPLE_SUBJECT, cwd=folder.parent).returncode == 0
    return folder


def body(path: Path) -> str:
    """Return a line from the middle of a key file: a canary that may appear nowhere."""
    lines = path.read_text().splitlines()
    return lines[len(lines) // 2]


def test_new_makes_key_and_certificate(tmp_path: Path) -> None:
    """A 0600 key and its certificate, thumbprints in all four forms on stdout, on stderr what to upload where."""
    done = run("keys", "new", "--out", "made", "--subject", EXAMPLE_SUBJECT, cwd=tmp_path)
    folder = tmp_path / "made"

    assert done.returncode == 0
    assert stat.S_IMODE((folder / "oauth.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["oauth.crt", "oauth.key"]
    printed = openssl("x509", "-in", folder / "oauth.crt", "-noout", "-fingerprint", "-sha1")
    assert printed.partition("=")[2].strip().replace(":", "") in done.stdout
    assert all(form in done.stdout for form in THUMBPRINT_FORMS)
    assert "OAUTH" in done.stderr
    assert body(folder / "oauth.key") not in done.stdout + done.stderr


def test_new_makes_a_request(tmp_path: Path) -> None:
    """`--csr` leaves key and request, no certificate; openssl verifies the request with all six fields."""
    done = run("keys", "new", "--csr", "--out", ".", "--subject", EXAMPLE_SUBJECT, "--json", cwd=tmp_path)

    assert done.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["oauth.csr", "oauth.key"]
    assert [each["kind"] for each in json.loads(done.stdout)] == ["private key", "certificate signing request"]
    text = openssl("req", "-in", tmp_path / "oauth.csr", "-noout", "-verify", "-subject", "-nameopt", "RFC2253")
    assert "CN=payproxy-client-testing,OU=Treasury,O=Example Inc,L=New York,ST=New York,C=US" in text
    assert "another CN" in done.stderr


@pytest.mark.parametrize("taken", ["oauth.key", "oauth.crt"])
def test_new_overwrites_nothing(tmp_path: Path, taken: str) -> None:
    """If one of the files is there, even as a dangling link, none is written."""
    (tmp_path / taken).symlink_to(tmp_path / "nowhere")
    done = run("keys", "new", "--out", ".", "--subject", EXAMPLE_SUBJECT, cwd=tmp_path)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_new_refuses_an_incomplete_subject(tmp_path: Path) -> None:
    """A subject the bank would send back is a usage error, and nothing is written."""
    done = run("keys", "new", "--out", ".", "--subject", "C=US, CN=x", cwd=tmp_path)
    assert done.returncode == 2
    assert "ST is missing" in done.stderr
    assert not list(tmp_path.iterdir())


def test_new_says_when_the_folder_cannot_be_made(tmp_path: Path) -> None:
    """A file in the way of the folder is named."""
    (tmp_path / "file").touch()
    done = run("keys", "new", "--out", "file/keys", "--subject", EXAMPLE_SUBJECT, cwd=tmp_path)
    assert done.returncode == 1
    assert "can't be written" in done.stderr


def test_inspect_pairs_key_and_certificate(made: Path, tmp_path: Path) -> None:
    """The files of `keys new` belong together; another key's certificate does not, and ends with 1."""
    good = run("keys", "inspect", made / "oauth.key", made / "oauth.crt", cwd=tmp_path)
    assert (good.returncode, "They belong together" in good.stderr) == (0, True)
    assert body(made / "oauth.key") not in good.stdout + good.stderr

    _, stranger = make_pair(tmp_path, name="stranger")
    bad = run("keys", "inspect", made / "oauth.key", stranger, "--json", cwd=tmp_path)
    assert bad.returncode == 1
    assert json.loads(bad.stdout)["belong_together"] is False
    assert "don't belong together" in bad.stderr


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    """Run `keys inspect` in this process; return code, stdout and stderr."""
    result = CliRunner().invoke(payproxy, ["keys", "inspect", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_inspect_recognises_the_form(made: Path) -> None:
    """Each form is told by name, also spelled with colons, in lower case or with padding; another one ends with 1."""
    certificate = made / "oauth.crt"
    _, printed, _ = invoke(certificate, "--json")
    prints = json.loads(printed)["files"][0]["thumbprints"]
    for form, value in prints.items():
        code, out, messages = invoke(certificate, "--expect", value, "--json")
        assert (code, json.loads(out)["expected"]["key_id_format"]) == (0, form)
        assert ("default" in messages) is (form == "sha1-hex")
        assert "another way" not in messages

    sha1 = prints["sha1-hex"]
    colons = ":".join(sha1[at : at + 2] for at in range(0, 40, 2)).lower()
    for spelled in [colons, sha1.lower(), prints["x5t#S256"] + "="]:
        code, _, messages = invoke(certificate, "--expect", spelled)
        assert code == 0
        assert "another way" in messages
        assert f'key_id = "{spelled}"' in messages

    code, _, messages = invoke(certificate, "--expect", "0" * 40)
    assert code == 1
    assert "not a thumbprint of these files" in messages


def test_inspect_pairs_request_and_pkcs12(made: Path, tmp_path: Path) -> None:
    """A request and a .p12 of the same key belong to it; the passphrase comes from a file."""
    request, store, word = tmp_path / "oauth.csr", tmp_path / "oauth.p12", tmp_path / "word"
    openssl("req", "-new", "-key", made / "oauth.key", "-subj", "/CN=x", "-out", request)
    source = ("-inkey", made / "oauth.key", "-in", made / "oauth.crt")
    openssl("pkcs12", "-export", *source, "-out", store, "-passout", "pass:canary-word")
    store.chmod(0o600)
    word.touch(mode=0o600)
    word.write_text("canary-word\n")

    code, printed, messages = invoke(made / "oauth.key", request, store, "--passphrase-file", word, "--json")

    assert code == 0, messages
    kinds = [each["kind"] for each in json.loads(printed)["files"]]
    assert kinds == ["private key", "certificate signing request", "private key and certificate"]
    assert json.loads(printed)["belong_together"] is True
    assert "canary-word" not in printed + messages

    word.chmod(0o644)
    code, _, messages = invoke(store, "--passphrase-file", word)
    assert code == 1
    assert "chmod 600" in messages


def test_inspect_names_what_cannot_be_used(made: Path, tmp_path: Path) -> None:
    """Garbage, a missing file and an open key are named on stderr, the rest is still shown, and the end is 1."""
    garbage, exposed, request = tmp_path / "garbage", tmp_path / "exposed.key", tmp_path / "half.csr"
    garbage.write_text("canary-content")
    exposed.write_bytes((made / "oauth.key").read_bytes())
    exposed.chmod(0o644)
    request.write_text("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    for path, message in [
        (garbage, "garbage"),
        (tmp_path / "missing", "no such file"),
        (exposed, "chmod 600"),
        (request, "request is damaged"),
        (tmp_path, "not a regular file"),
    ]:
        code, printed, messages = invoke(path, made / "oauth.crt")
        assert code == 1
        assert message in messages
        assert "sha1-hex" in printed
        assert "canary-content" not in printed + messages
        assert body(made / "oauth.key") not in printed + messages


def test_inspect_warns_of_an_expired_certificate(tmp_path: Path) -> None:
    """An expired certificate is shown with a warning; it is still what it is, so the end is 0."""
    # This machine's openssl refuses to make a certificate that has ended, so it is made with a clock of 2020.
    path, subject = tmp_path / "old.crt", Subject.parse(EXAMPLE_SUBJECT)
    path.write_bytes(public_pem(self_signed(new_key(), subject, now=1_577_836_800, entropy=SystemEntropy())))
    code, _, messages = invoke(path)
    assert code == 0
    assert "has expired" in messages


def test_inspect_keeps_the_terminal_safe(tmp_path: Path) -> None:
    """A subject with an escape sequence in it can't steer the terminal."""
    path = tmp_path / "evil.crt"
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a\x1b[2Jb", "-keyout", tmp_path / "evil.key"),
        *("-out", path),
    )
    code, printed, _ = invoke(path)
    assert code == 0
    assert "\x1b" not in printed
