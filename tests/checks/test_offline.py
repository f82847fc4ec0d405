from pathlib import Path

import pytest

from proxy.checks.offline import check_files, check_loaded
from proxy.settings.load import load
from tests.checks.support import JWT, NOW, Identity, identity, write


def test_files_are_checked_although_the_text_has_faults(folder: Path) -> None:
    """All at once: a typing error does not hide that the key is missing."""
    (folder / "oauth.key").unlink()
    (folder / "payproxy.toml").write_text(JWT.replace("[[routes]]", "[[routes]]\nmethds = []"))
    findings = check_files(None, environ={}, cwd=folder, now=NOW)

    assert [one.key for one in findings] == ["credentials.login.private_key_file", "routes.payments.methds"]


def test_placeholders_are_no_missing_files(folder: Path) -> None:
    """A placeholder has one finding, not a second one for the file that it does not name."""
    (folder / "payproxy.toml").write_text(JWT.replace("oauth.key", "..."))
    findings = check_files(None, environ={}, cwd=folder, now=NOW)

    assert [one.what for one in findings] == ["a placeholder was left in"]


def test_a_file_that_is_not_toml(folder: Path) -> None:
    """Where nothing can be understood nothing else is said."""
    (folder / "payproxy.toml").write_text("nonsense")

    assert [one.line for one in check_files(None, environ={}, cwd=folder, now=NOW)] == [1]


def test_what_is_loaded_already_can_be_checked(folder: Path) -> None:
    """`serve` loads once and has the files checked too."""
    (folder / "oauth.crt").unlink()
    (folder / "payproxy.toml").write_text(JWT)
    loaded = load(None, environ={}, cwd=folder)

    assert loaded.findings == ()
    assert [one.key for one in check_loaded(loaded, now=NOW)] == ["credentials.login.certificate_file"]


@pytest.fixture
def two(folder: Path, other: Identity) -> tuple[Path, Path]:
    """Client Testing with one identity, production with another."""
    write(folder / "other.key", other.key_pem())
    write(folder / "other.crt", other.certificate_pem)
    caller = f'[callers.erp]\napi_key_sha256 = ["{"ab" * 32}"]\n'
    testing, production = folder / "testing.toml", folder / "production.toml"
    testing.write_text(JWT)
    changed = (
        JWT.replace("client-testing", "production").replace("oauth.", "other.").replace("my-client", "other-client")
    )
    production.write_text(changed + caller)
    return testing, production


def test_two_environments_that_share_nothing(two: tuple[Path, Path]) -> None:
    """What the bank demands is fulfilled."""
    assert check_files(two, environ={}, cwd=two[0].parent, now=NOW) == []


@pytest.mark.parametrize(
    ("old", "new", "keys", "what"),
    [
        ("other-client", "my-client", ["client_id"], "the same client id"),
        ("other.key", "oauth.key", ["certificate_file", "private_key_file"], "the same key"),
        ("other.crt", "oauth.crt", ["certificate_file", "certificate_file"], "the same certificate"),
    ],
)
def test_two_environments_that_share(two: tuple[Path, Path], old: str, new: str, keys: list[str], what: str) -> None:
    """A key, certificate or client id that two environments use is an error on the second file's line."""
    two[1].write_text(two[1].read_text().replace(old, new))
    findings = check_files(two, environ={}, cwd=two[0].parent, now=NOW)
    shared = [one for one in findings if what in one.what]

    assert sorted(one.key.rpartition(".")[2] for one in findings) == keys
    assert len(shared) == 1
    assert shared[0].file == str(two[1])
    assert shared[0].line
    assert "client-testing uses" in shared[0].what
    assert f"{two[0]}:" in shared[0].what


def test_one_key_with_two_certificates_is_still_one_key(two: tuple[Path, Path], mine: Identity) -> None:
    """A renewed certificate does not make the key another one."""
    write(two[0].parent / "other.key", mine.key_pem())
    write(two[0].parent / "other.crt", identity(key=mine.key).certificate_pem)

    assert ["the same key" in one.what for one in check_files(two, environ={}, cwd=two[0].parent, now=NOW)] == [True]


def test_two_files_of_one_environment_may_share(two: tuple[Path, Path]) -> None:
    """Two instances of production are one client of the bank."""
    two[0].write_text(two[1].read_text())

    assert check_files(two, environ={}, cwd=two[0].parent, now=NOW) == []


def test_a_client_certificate_counts_too(two: tuple[Path, Path], mine: Identity) -> None:
    """TRANSPORT certificates are unique to an environment like all others."""
    tls = 'client_certificate_file = "tls.crt"\nclient_key_file = "tls.key"\n'
    write(two[0].parent / "tls.crt", identity(key=mine.key).certificate_pem)
    write(two[0].parent / "tls.key", mine.key_pem())
    for path in two:
        path.write_text(path.read_text().replace("[credentials.login]", f"{tls}[credentials.login]"))
    findings = check_files(two, environ={}, cwd=two[0].parent, now=NOW)

    assert [one.key for one in findings] == ["upstreams.payments.client_certificate_file"]
