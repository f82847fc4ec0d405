from pathlib import Path

from proxy.records.sinks.postgres_schema import SCHEMA

SQL = Path(__file__).parents[3] / "config" / "postgres.sql"


def test_what_an_owner_runs_makes_the_same_tables() -> None:
    """The file is the proxy's own statements to the letter, and the roles, which only an owner can make."""
    text = SQL.read_text()
    before, schema, after = text.partition(SCHEMA)

    assert schema == SCHEMA
    assert all(line.startswith("--") for line in before.splitlines() if line)
    assert all(word not in after for word in ("CREATE TABLE", "CREATE OR REPLACE", "CREATE INDEX", "CREATE SCHEMA"))
