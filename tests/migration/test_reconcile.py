from hypothesis import given
from hypothesis import strategies as st

from proxy.migration.reconcile import reconciled
from proxy.migration.state import Document, MigrationState

NAME = "payments"
STATES = st.builds(
    MigrationState, weight=st.integers(0, 100), version=st.integers(1, 6), who=st.sampled_from(["a", "b"])
)


def meet(
    mine: MigrationState | None, theirs: MigrationState | None, *, unshared: bool = False
) -> tuple[MigrationState, bool]:
    """Return what two replicas agree on, and whether the others are to be told."""
    document = Document(
        states={} if mine is None else {NAME: mine}, unshared=frozenset({NAME}) if unshared else frozenset()
    )
    agreed, to_tell = reconciled(document, {} if theirs is None else {NAME: theirs})
    assert to_tell.get(NAME, agreed[NAME]) == agreed[NAME]
    return agreed[NAME], NAME in to_tell


def test_the_higher_version_holds() -> None:
    """Whoever was away takes what was decided meanwhile."""
    assert meet(MigrationState(weight=10, version=1), MigrationState(weight=50, version=2)) == (
        MigrationState(weight=50, version=2),
        False,
    )


def test_what_the_others_lost_is_told_again() -> None:
    """A Redis that came back empty, or from an older copy, learns what is in force."""
    mine = MigrationState(weight=50, version=2)
    assert meet(mine, None) == (mine, True)
    assert meet(mine, MigrationState(weight=10, version=1)) == (mine, True)


def test_what_was_never_changed_is_no_news() -> None:
    """A state without a version need not be told."""
    assert meet(MigrationState(), None) == (MigrationState(), False)


def test_a_rollback_made_alone_gets_a_version_above() -> None:
    """Somebody else has raised the weight meanwhile: the rollback holds, with a higher version."""
    agreed, told = meet(MigrationState(weight=0, version=3), MigrationState(weight=80, version=5), unshared=True)
    assert (agreed.weight, agreed.version, told) == (0, 6, True)


def test_a_lower_weight_of_others_holds() -> None:
    """A rollback made alone must not raise what somebody else lowered further."""
    agreed, told = meet(MigrationState(weight=10, version=3), MigrationState(weight=0, version=5), unshared=True)
    assert (agreed.weight, agreed.version, told) == (0, 5, False)


def test_what_the_guard_holds_anywhere_is_held() -> None:
    """Two replicas each hold a caller while they can't reach each other."""
    mine = MigrationState(weight=50, version=3, held=("erp",))
    theirs = MigrationState(weight=50, version=3, held=("crm",))
    agreed, told = meet(mine, theirs, unshared=True)
    assert (agreed.held, agreed.version, told) == (("crm", "erp"), 4, True)


@given(st.none() | STATES, st.none() | STATES, st.booleans())
def test_nothing_grows_by_meeting_and_it_is_settled_at_once(
    mine: MigrationState | None,
    theirs: MigrationState | None,
    unshared: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    """The agreed weight is somebody's, no version falls below the shared one, and a second meeting changes nothing."""
    if mine is None and theirs is None:
        return
    agreed, told = meet(mine, theirs, unshared=unshared)

    known = [state for state in (mine, theirs) if state is not None]
    assert agreed.weight in {state.weight for state in known}
    if theirs is not None:
        assert agreed.version >= theirs.version
        assert (agreed == theirs) is not told
    if unshared and mine is not None:
        assert agreed.weight <= mine.weight
    assert meet(agreed, agreed) == (agreed, False)
