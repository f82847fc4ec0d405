"""What is known of migrations outside a worker: by it `payproxy explain` and the console's rule tester decide."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from proxy.migration.former import ANY_WEIGHT, FormerSetting
from proxy.migration.pin import RetryPin
from proxy.migration.side_cache import SideCache
from proxy.migration.side_settings import SideSettings
from proxy.migration.state import NEW, Document

# An unreadable state may have been changed already; the keeper assumes the same. The end is later than any time.
_UNREAD = SideSettings(NEW.weight, 1, (), (FormerSetting(ANY_WEIGHT, "", 1e11, settled=True),))


def known_sides(
    document: Document | None, names: Iterable[str], *, pins: Mapping[str, RetryPin], pins_readable: bool, now: float
) -> SideCache:
    """Return the state of the migrations in *document*; None: it can't be read, and those in *names* count as moved.

    *pins* may be all retry pins, or those that matter; *now* is in epoch seconds.
    """
    cache = SideCache()
    states = dict.fromkeys(names, _UNREAD)
    if document is not None:
        states = {
            name: SideSettings(
                state.weight,
                state.version,
                state.held,
                # Changes that are not settled yet will be within seconds.
                tuple(replace(one, settled=True) for one in document.former.get(name, ())),
            )
            for name, state in document.states.items()
        }
    cache.set_states(states, readable=pins_readable and document is not None)
    cache.add_pins(pins, now)
    return cache
