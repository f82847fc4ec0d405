"""Checks of migrations against the rules, credentials, upstreams and callers that they name."""

from collections.abc import Iterator

from proxy.settings.findings import Complaint, Key, did_you_mean
from proxy.settings.methods import SAFE_METHODS
from proxy.settings.migration import MigrationSection, SideSection
from proxy.settings.model import RouteSection
from proxy.settings.placeholder import is_placeholder
from proxy.settings.route_rules import unknown_names
from proxy.settings.valid import Valid

_Identity = tuple[str, str, str, str]


def migrations(valid: Valid) -> Iterator[Complaint]:
    """Check that every name exists, the sides differ, and adding the table moves nothing."""
    taken: dict[str, str] = {}
    for name, migration in valid.settings.migrations.items():
        key: Key = ("migrations", name)
        for word, side in (("legacy", migration.legacy), ("modern", migration.modern)):
            yield from unknown_names(valid, "credentials", [side.credential], (*key, word, "credential"))
            if side.upstream:
                yield from unknown_names(valid, "upstreams", [side.upstream], (*key, word, "upstream"))
        yield from _pins(valid, key, migration)
        yield from _single_requests(key, migration)
        if _identity(valid, migration.legacy, own="") == _identity(valid, migration.modern, own=""):
            yield Complaint(
                key=(*key, "modern"),
                what="the two sides are the same",
                fix="give modern the credential, audience, scope or upstream that the rules move to",
            )
            continue
        yield from _routes(valid, key, migration, taken)


def _pins(valid: Valid, key: Key, migration: MigrationSection) -> Iterator[Complaint]:
    pin = migration.pin
    yield from unknown_names(valid, "callers", pin.legacy, (*key, "pin", "legacy"))
    yield from unknown_names(valid, "callers", pin.modern, (*key, "pin", "modern"))
    for caller in sorted(set(pin.legacy) & set(pin.modern)):
        yield Complaint(
            key=(*key, "pin", "modern"),
            what=f'caller "{caller}" is pinned to both sides',
            fix="remove it from one list",
        )


def _single_requests(key: Key, migration: MigrationSection) -> Iterator[Complaint]:
    if migration.sticky != "request":
        return
    for method in migration.methods:
        if method not in SAFE_METHODS:
            yield Complaint(
                key=(*key, "methods"),
                what=f"{method} can't be spread by single requests: a second try could go to the other side, and be "
                "done twice",
                fix='remove it, or set sticky = "caller"',
            )


def _routes(valid: Valid, key: Key, migration: MigrationSection, taken: dict[str, str]) -> Iterator[Complaint]:
    if not migration.routes:
        yield Complaint(key=(*key, "routes"), what="it names no rule", fix="list the names of the rules that move")
    known = {route.name: route for route in valid.routes.values()}
    for name in migration.routes:
        if name not in valid.route_names and not is_placeholder(name):
            fix = did_you_mean(name, valid.route_names)
            yield Complaint(key=(*key, "routes"), what=f'no rule is called "{name}"', fix=fix)
        if name in taken:
            yield Complaint(
                key=(*key, "routes"),
                what=f'rule "{name}" is in it twice'
                if taken[name] == str(key[1])
                else f'rule "{name}" is in migration "{taken[name]}" too',
                fix="name it once",
            )
        elif name in known:
            yield from _own(valid, key, migration, known[name])
        taken.setdefault(name, str(key[1]))


def _own(valid: Valid, key: Key, migration: MigrationSection, route: RouteSection) -> Iterator[Complaint]:
    """Report a *route* whose own settings equal neither side: adding the table would move it."""
    own = _identity(valid, route, own=route.upstream)
    sides = {
        word: _identity(valid, side, own=route.upstream)
        for word, side in (("legacy", migration.legacy), ("modern", migration.modern))
    }
    if own in sides.values():
        return
    every = (own, *sides.values())
    if any(one[0] not in valid.settings.credentials or any(map(is_placeholder, one)) for one in every):
        return  # reported by another check
    word, near = min(sides.items(), key=lambda one: [mine != theirs for mine, theirs in zip(own, one[1], strict=True)])
    differing = [
        name
        for name, mine, theirs in zip(("credential", "audience", "scope", "upstream"), own, near, strict=True)
        if mine != theirs
    ]
    what = (
        "is that of neither side"
        if "credential" in differing
        else f"goes with the credential of {word}, but {' and '.join(differing)} differ"
    )
    yield Complaint(
        key=(*key, "routes"),
        what=f'the {differing[0]} of rule "{route.name}" {what}'
        if "credential" in differing
        else f'rule "{route.name}" {what}',
        fix=f"write in the rule what stands in {word}: adding a migration must not move anything",
    )


def _identity(valid: Valid, side: SideSection | RouteSection, *, own: str) -> _Identity:
    """Return the fields that distinguish sides; the scope is the effective one."""
    credential = valid.settings.credentials.get(side.credential)
    scope = side.scope or (credential.default_scope if credential is not None else "")
    return side.credential, side.audience, scope, side.upstream or own
