from pathlib import Path

import pytest

from proxy.settings.findings import Severity
from tests.checks.support import JWT, found, write

LOG = '[request_log]\ndatabase_file = "database.url"\n'


@pytest.mark.parametrize(
    ("content", "mode", "what", "severity"),
    [
        (b"postgresql://writer:hunter2@db.example/log", 0o640, "group or others", Severity.ERROR),
        (b"postgresql://writer:hunter2@db.example/log", 0o600, "does not have to prove", Severity.WARNING),
        (b"hunter2", 0o600, "not that of a supported database", Severity.ERROR),
        (b"", 0o600, "is empty", Severity.ERROR),
    ],
)
def test_the_file_with_the_database_url_is_opened(
    folder: Path, content: bytes, mode: int, what: str, severity: Severity
) -> None:
    """What is wrong with it is said on its line, without its content."""
    write(folder / "database.url", content, mode=mode)
    (one,) = found(folder, JWT + LOG)

    assert (one.key, one.severity) == ("request_log.database_file", severity)
    assert what in one.what
    assert "hunter2" not in str(one)


def test_a_good_file_is_nothing_to_complain_about(folder: Path) -> None:
    """A server on this machine, and one that has to prove itself."""
    for url in (b"postgresql://writer:x@127.0.0.1/log", b"postgresql://writer:x@db.example/log?sslmode=verify-full"):
        write(folder / "database.url", url)
        assert found(folder, JWT + LOG) == []
    (folder / "database.url").unlink()
    assert "no such file" in found(folder, JWT + LOG)[0].what
