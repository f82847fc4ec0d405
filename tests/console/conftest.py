from tests.records.conftest import postgres, postgres_server  # noqa: F401 - fixtures
