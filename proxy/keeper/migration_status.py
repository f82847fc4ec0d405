"""Build a migration's status for display."""

from proxy.migration.state import MigrationState
from proxy.settings.worker_values import MigrationValues, SideValues
from proxy.telemetry.status import MigrationStatus, TokenStatus


def status_of(values: MigrationValues, state: MigrationState, tokens: tuple[TokenStatus, ...]) -> MigrationStatus:
    """Return the status of the migration *values*, with the usability of its sides' tokens from *tokens*."""
    legacy, modern = tokens_of(values.legacy, tokens), tokens_of(values.modern, tokens)
    return MigrationStatus(
        name=values.name,
        weight=state.weight,
        version=state.version,
        who=state.who,
        when=state.when,
        reason=state.reason,
        phase=state.phase.value,
        last_good=state.last_good,
        guard_pinned=state.held,
        finished=state.finished,
        legacy_token_at_hand=bool(legacy) and all(token.usable for token in legacy),
        modern_token_at_hand=bool(modern) and all(token.usable for token in modern),
        modern_tokens=modern,
    )


def tokens_of(side: SideValues, tokens: tuple[TokenStatus, ...]) -> tuple[TokenStatus, ...]:
    """Return those of *tokens* that *side* uses."""
    return tuple(
        token
        for token in tokens
        if (token.credential, token.audience, token.scope) == (side.credential, side.audience, side.scope)
    )
