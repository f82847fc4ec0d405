import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records.postgres import Postgres, binaries, execute, run_now, running_postgres


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


_EMPTY = """
DROP SCHEMA IF EXISTS payproxy CASCADE;
DO $$ DECLARE one text; BEGIN
  FOR one IN SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolname NOT LIKE 'pg\\_%' LOOP
    EXECUTE format('DROP OWNED BY %I CASCADE; DROP ROLE %I', one, one);
  END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """Yield the PostgreSQL server of this process."""
    found = binaries()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql-15)")
    with running_postgres(found) as server:
        yield server


@pytest.fixture(scope="module")
def postgres(postgres_server: Postgres) -> Postgres:
    """Return a PostgreSQL server that runs, without what other modules left in it."""
    run_now(execute(postgres_server.url(), _EMPTY))
    return postgres_server
