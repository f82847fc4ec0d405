import pwd
from pathlib import Path

import pytest

from proxy.checks.offline import check_files
from proxy.checks.shared_host import logins, other_users
from proxy.settings.findings import Severity
from tests.checks.support import NOW
from tests.console.support import OPERATORS
from tests.settings.support import plain


def account(name: str, uid: int, shell: str = "/bin/bash") -> pwd.struct_passwd:
    """Return an account."""
    return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", shell))


def test_who_can_log_in() -> None:
    """Accounts of services, of nobody and of ourselves are none of other people."""
    accounts = [
        account("root", 0), account("postgres", 101), account("payproxy", 1001), account("bob", 1003),
        account("alice", 1002, "/usr/bin/zsh"), account("backup", 1004, "/usr/sbin/nologin"),
        account("git", 1005, "/bin/false"), account("nobody", 65534),
    ]  # fmt: skip

    assert logins(accounts, own=1001) == ["alice", "bob"]
    assert logins([account("alice", 1000), account("payproxy", 1001)], own=1001) == ["alice"]


@pytest.mark.parametrize("own", [0, 999, 1000])
def test_who_has_a_machine_alone_is_not_another(own: int) -> None:
    """Also where payproxy runs as root, or as a user of its own that nobody logs in with."""
    assert logins([account("root", 0), account("payproxy", 999), account("alice", 1000)], own=own) == []


def test_the_accounts_of_a_container_are_nobodys() -> None:
    """Images have some that nobody logs in with."""
    assert other_users({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == []


@pytest.mark.parametrize(
    ("admin", "environment", "users", "named"),
    [
        ("", "production", ("alice",), "log in to it: alice"),
        ("", "client-testing", ("a", "b", "c", "d"), "a, b, c and 1 more"),
        ("", "production", (), ""),
        ("", "mock", ("alice",), ""),
        ("console = false", "production", ("alice",), ""),
        ('listen = ""', "production", ("alice",), ""),
        ('listen = "unix:/run/payproxy/admin.sock"', "production", ("alice",), ""),
        ('operators = { alice = "HASH" }', "production", ("bob",), ""),
    ],
)
def test_a_console_without_sign_in_on_a_shared_machine(
    tmp_path: Path, admin: str, environment: str, users: tuple[str, ...], named: str
) -> None:
    """A warning: everybody on it reads who paid what."""
    admin = admin.replace("HASH", OPERATORS["alice"])
    listen = 'listen = "127.0.0.1:9901"'
    text = plain((listen, admin if "listen" in admin else f"{listen}\n{admin}")).replace(
        'environment = "client-testing"', f'environment = "{environment}"'
    )
    (tmp_path / "payproxy.toml").write_text(text)
    alone, shared = (check_files(None, environ={}, cwd=tmp_path, now=NOW, users=some) for some in ((), users))

    new = [one for one in shared if one not in alone]
    assert [(one.key, one.severity) for one in new] == [("admin.operators", Severity.WARNING)] * bool(named)
    assert named in "".join(one.what for one in new)
