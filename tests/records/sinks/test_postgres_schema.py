from pathlib import Path

from proxy.records.sinks import postgres_schema

ROOT = Path(__file__).parents[3]


def test_what_an_owner_runs_makes_the_same_tables() -> None:
    """It is the same file; the proxy leaves out the roles, whose rights only an owner can grant."""
    text = (ROOT / "config" / "postgres.sql").read_text()
    schema, _, roles = text.partition("-- What the proxy logs in as")

    assert (ROOT / "proxy" / "records" / "sinks" / "postgres.sql").read_text() == text
    assert schema.startswith(postgres_schema.SCHEMA)
    assert "GRANT" in roles
    assert "GRANT" not in postgres_schema.SCHEMA
    assert all(word not in roles for word in ("CREATE TABLE", "CREATE OR REPLACE", "CREATE INDEX", "CREATE SCHEMA"))
