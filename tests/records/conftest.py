import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records.postgres import Postgres, binaries, running_postgres


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["/bin/umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Yield a PostgreSQL server that runs."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql-15)")
    with running_postgres(found) as server:
        yield server
