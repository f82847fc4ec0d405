"""What several tests of the keeper share."""

import pytest

from proxy.tokens import token_store


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a Redis as long as a busy machine needs, where a test is not about that."""
    monkeypatch.setattr(token_store, "OPERATION_SECONDS", 30.0)
