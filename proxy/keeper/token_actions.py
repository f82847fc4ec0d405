"""The admin socket's action for `payproxy token`."""

from collections.abc import Callable
from typing import Any

from proxy.keeper.admin import Action, ActionRefused
from proxy.keeper.token_manager import TokenManager


def token_actions(token_manager: Callable[[], TokenManager], *, write_line: Callable[[str], None]) -> dict[str, Action]:
    """Return the actions by path; *token_manager* returns the one in use."""

    def retry(values: dict[str, Any]) -> dict[str, Any]:
        credential, audience = values.get("credential"), values.get("audience")
        if not isinstance(credential, str) or not isinstance(audience, str | None):
            raise ActionRefused(400, "bad_request", "credential and audience are names.")
        retried = token_manager().retry(credential, audience)
        if retried:
            write_line(f"back-off cleared on request: {credential}, {retried} tokens")
        return {"retried": retried}

    return {
        "/api/tokens/retry": Action(
            what='try to mint at once, as after `payproxy token`: {"credential": NAME, "audience": AUDIENCE}', act=retry
        )
    }
