"""Build a migration's status for display."""

from collections.abc import Iterable, Mapping

from proxy.migration.state import MigrationState
from proxy.settings.worker_values import MigrationValues, SideValues
from proxy.telemetry.status import MigrationStatus, TokenStatus

# By credential, audience and scope.
Tokens = Mapping[tuple[str, str, str], tuple[TokenStatus, ...]]


def status_of(values: MigrationValues, state: MigrationState, tokens: Tokens) -> MigrationStatus:
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


def by_key(tokens: Iterable[TokenStatus]) -> Tokens:
    """Return *tokens* as `tokens_of` finds them: there are hundreds of tokens, and two sides of each migration."""
    found: dict[tuple[str, str, str], tuple[TokenStatus, ...]] = {}
    for token in tokens:
        key = (token.credential, token.audience, token.scope)
        found[key] = (*found.get(key, ()), token)
    return found


def tokens_of(side: SideValues, tokens: Tokens) -> tuple[TokenStatus, ...]:
    """Return those of *tokens* that *side* uses."""
    return tokens.get((side.credential, side.audience, side.scope), ())
