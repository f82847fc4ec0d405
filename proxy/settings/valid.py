"""What rules across sections look at."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.settings.findings import Key
from proxy.settings.model import RouteSection, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """The sections without a fault of their own, for rules across sections; the others are left out of *settings*.

    *routes* are by position in the file. *faulty* are the sections left out: ("server",), ("credentials", "login"),
    ("routes", 2). *route_names* has also theirs: a reference to one is no fault. *given* are the keys with a value from
    any source.
    """

    settings: Settings
    routes: Mapping[int, RouteSection]
    route_names: frozenset[str]
    faulty: frozenset[Key]
    given: frozenset[Key]

    def names(self, section: str) -> frozenset[str]:
        """Return the names of the tables in *section*, with those that have a fault: a reference to one is none."""
        faulty = {str(key[1]) for key in self.faulty if key[0] == section and len(key) > 1}
        return frozenset(getattr(self.settings, section)) | faulty
