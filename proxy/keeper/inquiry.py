"""An inquiry at the bank as values: what is asked about a request, and by which side."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from proxy.records.unanswered import SENT_TO
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
    """The request that is asked about, as its record has it; *index* has the kept headers.

    *upstream_url* and *client_digest* are "" in the record of an earlier version.
    """

    id: str
    route: str
    environment: str
    upstream: str
    upstream_url: str
    credential: str
    client_digest: str
    side: str
    index: Mapping[str, str]


def about(record: Mapping[str, Any]) -> About:
    """Return the exchange *record* as it is asked about; raises KeyError for a line that is none."""
    names = ("id", "route", "environment", "upstream", "credential", "side")
    sent_to = {name: str(record.get(name, "")) for name in SENT_TO}
    return About(**{name: str(record[name]) for name in names}, **sent_to, index=record["index"])


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
    """Return the side of *route* that sends where the request went, as the same client; raises CantAsk.

    Names say nothing: a reload gives them another URL or client_id, and other instances may share the log.
    """
    sent_to = (about.upstream_url, about.client_digest)
    if not all(sent_to):
        raise CantAsk(
            "an earlier version of payproxy wrote its record, which does not say to which URL and as which client it "
            f"was sent. {_BY_HAND}"
        )
    same = [one for one in route.sides if (one.url, one.token_key.client_digest) == sent_to]
    if not same:
        raise CantAsk(f"{_difference(about, route)}; another one may not know of it, so it was not asked. {_BY_HAND}")
    # Two credentials may be the same client.
    return next((one for one in same if one.token_key.credential == about.credential), same[0])


_BY_HAND = "Ask by hand, at the URL and as the client of the configuration that it had: config_digest in its record"


def _difference(about: About, route: Route) -> str:
    """Return what the sides of *route* differ in from where the request went."""
    urls = {one.url for one in route.sides}
    if about.upstream_url not in urls:
        went = f"it went to {about.upstream_url} (upstream {about.upstream})"
        return f"{went}, and rule {route.name} sends to {' or '.join(sorted(urls))}"
    named = {one.token_key.credential for one in route.sides if one.url == about.upstream_url}
    if about.credential not in named:
        was = f"it was sent as the client of credential {about.credential}"
        return f"{was}, and rule {route.name} has {' or '.join(sorted(named))} there"
    return (
        f"it was sent as another client than that of credential {about.credential} now: client_id, token_url, "
        "audience, scope or extra_parameters differ"
    )
