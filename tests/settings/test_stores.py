import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.secret import Secret
from proxy.settings.findings import Finding, Severity
from proxy.settings.loaded import Loaded
from proxy.settings.model import RequestLogSection
from proxy.settings.models import validated
from proxy.settings.stores import (
    DATABASE,
    PostgresDatabase,
    SqliteDatabase,
    StoreUrl,
    UrlUnusable,
    database_of,
    trusts_the_network,
)
from proxy.settings.values import digest, masked
from tests.settings.support import load_text, one_finding, plain

PASSWORD = "hunter2"
WITH_PASSWORD = f"postgresql://writer:{PASSWORD}@db.example/log?sslmode=verify-full"


def with_log(*lines: str) -> str:
    """Return the plain configuration with *lines* in [request_log]."""
    return plain(more="\n[request_log]\n" + "\n".join(lines) + "\n")


def all_of(loaded: Loaded) -> str:
    """Return everything that may be printed of *loaded*."""
    assert loaded.readable is not None
    texts = [*map(str, loaded.findings), repr(loaded.readable), str(masked(loaded.readable)), repr(loaded.sources)]
    return "\n".join([*texts, json.dumps(masked(loaded.readable))])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:requests.db", "sqlite:requests.db"),
        ("postgresql://db/log", "postgresql://db/log"),
        ("postgresql://writer@db:5432/log", "postgresql://writer@db:5432/log"),
        ("postgresql://writer:pw@db/log", "postgresql://writer:***@db/log"),
        ("postgresql://writer:p@w:/x@db/log", "postgresql://writer:***@db/log"),
        ("postgresql://:pw@db/log", "postgresql://:***@db/log"),
        ("postgres:///log?user=a&password=pw&sslmode=require", "postgres:///log?user=a&password=***&sslmode=require"),
        ("postgresql://db/log?sslpassword=pw", "postgresql://db/log?sslpassword=***"),
    ],
)
def test_a_url_shows_all_but_its_password(url: str, shown: str) -> None:
    """However it is printed."""
    made = StoreUrl(url)

    assert str(made) == f"{made}" == shown
    assert repr(made) == repr(shown)
    assert made.reveal() == url
    assert made.has_password == (url != shown)


def test_urls_with_other_passwords_are_others() -> None:
    """A new password is a change."""
    one, other = (StoreUrl(f"postgresql://a:{password}@b/c") for password in ("x", "y"))

    assert one != other
    assert one == StoreUrl("postgresql://a:x@b/c")
    assert hash(one) != hash(other)


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "mysql://a/b",
        "requests.db",
        "sqlite:",
        "sqlite:..",
        "postgresql://",
        "postgresql://a b/c",
        "postgresql://a/b#c",
        "postgresql://[::1/b",
        "postgresql://a/b\n",
        7,
        None,
    ],
)
def test_what_is_no_database_is_refused_without_quoting_it(tmp_path: Path, bad: object) -> None:
    """In the file and anywhere else."""
    with pytest.raises(ValidationError, match=r"URL|string") as raised:
        validated(RequestLogSection, {"database": bad})
    assert "mysql" not in str(raised.value)
    if isinstance(bad, str) and "\n" not in bad:
        found = one_finding(load_text(tmp_path, with_log(f'database = "{bad}"')))
        assert found.key == "request_log.database"
        assert "sqlite:requests.db or postgresql://" in found.fix


def test_the_default_lies_in_the_data_directory(tmp_path: Path) -> None:
    """As does every relative path of the kind; an absolute one stays."""
    loaded = load_text(tmp_path, plain())
    assert loaded.settings is not None
    log, directory = loaded.settings.request_log, tmp_path / "payproxy-data"

    assert isinstance(log.database, StoreUrl)
    assert database_of(log.database, log.database_file, data_directory=directory) == SqliteDatabase(
        path=directory / "requests.db"
    )
    absolute = database_of(StoreUrl("sqlite:/var/lib/log.db"), "", data_directory=directory)
    assert absolute == SqliteDatabase(path=Path("/var/lib/log.db"))


def test_an_empty_url_turns_it_off(tmp_path: Path) -> None:
    """Also with an empty database_file."""
    loaded = load_text(tmp_path, with_log('database = ""'))

    assert loaded.settings is not None
    assert database_of(loaded.settings.request_log.database, "", data_directory=tmp_path) is None


def test_a_password_in_the_file_is_an_error_that_does_not_say_it(tmp_path: Path) -> None:
    """It would be in every copy of the configuration."""
    loaded = load_text(tmp_path, with_log(f'database = "{WITH_PASSWORD}"'))

    assert "password" in one_finding(loaded).what
    assert "database_file" in one_finding(loaded).fix
    assert PASSWORD not in all_of(loaded)


def test_a_password_in_the_environment_is_never_shown(tmp_path: Path) -> None:
    """It is no part of the digest either, which names configurations in records."""
    environ = {"PAYPROXY_REQUEST_LOG__DATABASE": WITH_PASSWORD}
    loaded = load_text(tmp_path, plain(), environ=environ)
    other = load_text(
        tmp_path, plain(), environ={"PAYPROXY_REQUEST_LOG__DATABASE": WITH_PASSWORD.replace(PASSWORD, "another")}
    )
    assert loaded.findings == ()
    assert loaded.settings is not None
    assert other.settings is not None

    assert loaded.settings.request_log.database.reveal() == WITH_PASSWORD
    assert PASSWORD not in all_of(loaded)
    assert "writer:***@db.example" in all_of(loaded)
    assert digest(loaded.settings) == digest(other.settings)


def _severities(findings: tuple[Finding, ...]) -> list[tuple[Severity, str]]:
    return [(one.severity, one.key) for one in findings]


def test_a_server_that_need_not_prove_itself_is_a_warning(tmp_path: Path) -> None:
    """The records would go to whoever answers."""
    loaded = load_text(tmp_path, with_log('database = "postgresql://writer@db.example/log"'))

    assert _severities(loaded.findings) == [(Severity.WARNING, "request_log.database")]
    assert "sslmode=verify-full" in one_finding(loaded).fix


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("postgresql://writer@db.example/log", True),
        ("postgresql://writer@db.example/log?sslmode=require", True),
        ("postgresql://127.0.0.1,db.example:5433/log", True),
        ("postgresql:///log?host=db.example", True),
        ("postgresql://writer@db.example/log?sslmode=verify-full", False),
        ("postgresql://db.example/log?sslmode=verify-ca&x=y", False),
        ("postgresql://localhost/log", False),
        ("postgresql://a@127.0.0.1:5433/log", False),
        ("postgresql://[::1]:5433/log", False),
        ("postgresql:///log?host=/run/postgresql", False),
    ],
)
def test_whether_the_network_is_trusted(url: str, trusted: bool) -> None:  # noqa: FBT001 - parametrized
    """On this machine it may be."""
    assert trusts_the_network(StoreUrl(url)) == trusted


def test_two_places_are_one_too_many(tmp_path: Path) -> None:
    """With the default, which nobody wrote, there is no quarrel; nor with one that is turned off."""
    for text, count in (('database = "sqlite:a.db"', 1), ('database = ""', 0), ("", 0)):
        loaded = load_text(tmp_path, with_log(text, 'database_file = "database.url"'))
        assert [one.key for one in loaded.findings] == ["request_log.database_file"] * count


def test_without_the_extra_postgres_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how to install it."""
    monkeypatch.setattr("proxy.settings.route_rules.extra_installed", lambda: False)
    monkeypatch.setattr("proxy.settings.stores.extra_installed", lambda: False)
    loaded = load_text(tmp_path, with_log('database = "postgresql://127.0.0.1/log"'))

    assert "-m pip install 'asyncpg>=" in one_finding(loaded).fix
    with pytest.raises(UrlUnusable, match="-m pip install 'asyncpg>="):
        database_of(StoreUrl("postgresql://127.0.0.1/log"), "", data_directory=tmp_path)


def test_the_file_with_the_url(tmp_path: Path) -> None:
    """It is relative to the configuration file and wins over the default."""
    (tmp_path / "database.url").write_text(WITH_PASSWORD + "\n")
    (tmp_path / "database.url").chmod(0o600)
    loaded = load_text(tmp_path, with_log('database_file = "database.url"'))
    assert loaded.settings is not None
    log = loaded.settings.request_log
    database = database_of(log.database, log.database_file, data_directory=tmp_path)

    assert log.database_file == str(tmp_path / "database.url")
    assert database == PostgresDatabase(url=Secret(WITH_PASSWORD))
    assert PASSWORD not in repr(database)


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (WITH_PASSWORD.encode(), 0o640, "chmod 600"),
        (b"", 0o600, "is empty"),
        (b"\n", 0o600, "is empty"),
        (b"\xff", 0o600, "UTF-8"),
        (b"postgresql://a/" + b"b" * 9000, 0o600, "larger than"),
        (f"hunter2 {WITH_PASSWORD}".encode(), 0o600, "blank"),
        (b"hunter2", 0o600, "not that of a supported database"),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, content: bytes, mode: int, what: str) -> None:
    """Its content is not quoted."""
    path = tmp_path / "database.url"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(UrlUnusable, match=what) as raised:
        DATABASE.read(path)
    assert "hunter2" not in str(raised.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A directory, or nothing at all."""
    with pytest.raises(UrlUnusable, match=r"not a regular file|is a directory"):
        DATABASE.read(tmp_path)
    with pytest.raises(UrlUnusable, match="no such file"):
        DATABASE.read(tmp_path / "absent")
