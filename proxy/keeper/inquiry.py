"""An inquiry at the bank as values: what is asked about a request, and by which side."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from proxy.routing.table import Route, RouteSide
from proxy.settings.inquiry import header_names

# Longer ones belong to no API of the bank: Global Payments 2 takes 128 characters, Checkout 22.
LONGEST_VALUE = 256

# first4…last2#hmac8, the form in which the log keeps card numbers, IBANs and tokens.
_MASKED = re.compile(r"….{0,2}#[0-9a-f]{8}")


class Verdict(StrEnum):
    """What the bank's answer means."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    UNCLEAR = "unclear"


class CantAsk(Exception):
    """The bank can't be asked about this request; the message says why, and repeats no header's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The request that is asked about, as its record has it; *index* has the kept headers."""

    id: str
    route: str
    environment: str
    upstream: str
    credential: str
    audience: str
    side: str
    index: Mapping[str, str]


def about(record: Mapping[str, Any]) -> About:
    """Return the exchange *record* as it is asked about; raises KeyError for a line that is none."""
    names = ("id", "route", "environment", "upstream", "credential", "audience", "side")
    return About(**{name: str(record[name]) for name in names}, index=record["index"])


def target_of(path: str, index: Mapping[str, str]) -> str:
    """Return *path* with the values of *index* for the names in braces, percent-encoded; raises CantAsk.

    Names are stated in the query only, so that no value can change the path, and by that the rule and the token.
    """
    kept = {name.lower(): value for name, value in index.items()}
    for name in header_names(path):
        path = path.replace("{" + name + "}", quote(_usable(name, kept.get(name.lower(), "")), safe=""))
    return path


def _usable(name: str, value: str) -> str:
    if not value:
        raise CantAsk(f"the request had no {name}, by which the bank is asked")
    if _MASKED.search(value):
        raise CantAsk(f"the log keeps {name} masked, so the bank can't be asked by it")
    if len(value) > LONGEST_VALUE or "…" in value or not (value.isascii() and value.isprintable()):
        raise CantAsk(f"the value of {name} is too long, was cut off, or has characters that are not plain ASCII")
    if "," in value:
        raise CantAsk(f"{name} was there more than once, or has a comma: it is not clear by which value to ask")
    return value


def side_of(about: About, route: Route) -> RouteSide:
    """Return the side of *route* that carried the request; raises CantAsk, for another one would not know of it."""
    migration = route.migration
    if migration is None:
        sides: Iterable[tuple[str, RouteSide]] = [("", route.own)]
    else:
        sides = [("legacy", migration.legacy), ("modern", migration.modern)]
    for name, side in sides:
        # After a migration has ended, its side is the rule's own upstream and credential.
        if about.side in {name, ""} or not name:
            key = side.token_key
            if (side.upstream, key.credential, key.audience) == (about.upstream, about.credential, about.audience):
                return side
    raise CantAsk(
        f"the request went to upstream {about.upstream} with credential {about.credential}"
        f"{f' on side {about.side}' if about.side else ''}, and rule {about.route} has no such side any more; another "
        "one may not know of it, so it was not asked"
    )
