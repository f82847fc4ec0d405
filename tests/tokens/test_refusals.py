"""What a refusal means: the table of the decision, refusal sources, suspects, and when a token is void for all."""

import itertools

import pytest

from proxy.tokens.refusals import Doubt, Suspects, Verdict, caller_of, source_of, verdict

NEVER = (False,)
EITHER = (False, True)
ANY: tuple[bool | None, ...] = (None, False, True)


@pytest.mark.parametrize(
    ("suspect", "erring", "credit", "accepted", "last_resort", "works", "expected"),
    [
        # The first refusal of a request that is not known to be refused whatever its token: a mint, at once.
        (NEVER, NEVER, (True,), EITHER, EITHER, ANY, Verdict.MINT),
        # Its caller is known for others: at once if nobody else is served.
        (NEVER, (True,), (True,), EITHER, EITHER, (None,), Verdict.ASK),
        (NEVER, (True,), (True,), EITHER, EITHER, (True,), Verdict.KEEP),
        (NEVER, (True,), (True,), EITHER, EITHER, NEVER, Verdict.MINT),
        # Known as such, or no mint left: the token must have worked before, and not be in use elsewhere any more.
        ((True,), EITHER, EITHER, (True,), (True,), (None,), Verdict.ASK),
        (NEVER, EITHER, NEVER, (True,), (True,), (None,), Verdict.ASK),
        ((True,), EITHER, EITHER, (True,), (True,), (True,), Verdict.KEEP),
        (NEVER, EITHER, NEVER, (True,), (True,), (True,), Verdict.KEEP),
        ((True,), EITHER, EITHER, (True,), (True,), NEVER, Verdict.MINT),
        (NEVER, EITHER, NEVER, (True,), (True,), NEVER, Verdict.MINT),
        # A token that nobody was served with can't be told from the next one.
        ((True,), EITHER, EITHER, NEVER, EITHER, ANY, Verdict.KEEP),
        (NEVER, EITHER, NEVER, NEVER, EITHER, ANY, Verdict.KEEP),
        # Such mints have a rate limit of their own.
        ((True,), EITHER, EITHER, EITHER, NEVER, ANY, Verdict.KEEP),
        (NEVER, EITHER, NEVER, EITHER, NEVER, ANY, Verdict.KEEP),
    ],
)
def test_what_follows_from_a_refusal(  # noqa: PLR0917 - the columns of the table
    suspect: tuple[bool, ...],
    erring: tuple[bool, ...],
    credit: tuple[bool, ...],
    accepted: tuple[bool, ...],
    last_resort: tuple[bool, ...],
    works: tuple[bool | None, ...],
    expected: Verdict,
) -> None:
    """Each row for all the cases that it stands for."""
    for case in itertools.product(suspect, erring, credit, accepted, last_resort, works):
        names = ("suspect", "erring", "credit", "accepted", "last_resort", "works")
        assert verdict(**dict(zip(names, case, strict=True))) is expected, case  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/payments", "/payments"),
        ("/payments/4711", "/payments/*"),
        ("/v2/payments/4711/items", "/*/payments/*/items"),
        ("/payments/0b9d3a9c-0c6e-4a3c-9a7e-0a4f6f1f7a11", "/payments/*"),
        ("/documents/" + "a" * 33, "/documents/*"),
        ("/documents/" + "a" * 32, "/documents/" + "a" * 32),
        ("/", "/"),
    ],
)
def test_a_source_has_no_identifiers(path: str, shape: str) -> None:
    """A thousand payments of one caller are one source."""
    assert source_of("pay", "shop", "GET", path) == f"pay shop GET {shape}"


def test_a_source_tells_route_caller_and_method_apart() -> None:
    """An entitlement is a caller's, and may be to read only."""
    sources = {source_of(*one, "/a") for one in itertools.product(("pay", "read"), ("a", "b"), ("GET", "POST"))}
    assert len(sources) == 8


def test_a_source_is_bounded() -> None:
    """A path may have 8 KiB."""
    assert len(source_of("pay", "shop", "GET", "/name" * 1000)) == 200


@pytest.mark.parametrize(("route", "caller"), [("pay", "shop"), ("pay", ""), ("a-route.1", "CN=shop")])
def test_a_source_tells_its_caller(route: str, caller: str) -> None:
    """Also the one of whom nothing is known."""
    assert caller_of(source_of(route, caller, "GET", "/a b")) == caller


def test_a_caller_that_is_refused_by_ever_new_sources_errs() -> None:
    """At three of them, each with a fresh token of its own; for longer with each more; until one is accepted."""
    suspects, now = Suspects(), 100.0
    for mint in range(1, 4):
        assert not suspects.errs("pay shop GET /new", now=now)
        for path in ("a", "b"):
            suspects.refused_fresh(f"pay shop GET /{path}{mint}", mint, now=now)
    assert suspects.errs("other shop POST /new", now=now + 7)
    assert not suspects.errs("pay erp GET /new", now=now)
    assert not suspects.errs("other shop POST /new", now=now + 8)

    suspects.refused_fresh("pay shop GET /c", 4, now=now + 8)
    assert suspects.errs("pay shop GET /new", now=now + 23)
    suspects.cleared("pay shop GET /a1")
    assert not suspects.errs("pay shop GET /new", now=now + 8)


def test_a_caller_with_one_path_that_is_always_refused_does_not_err() -> None:
    """What it sends besides is served."""
    suspects, now = Suspects(), 100.0
    for mint in range(10):
        suspects.refused_fresh("pay shop GET /no", mint, now=now)
        now += 1000
        assert not suspects.errs("pay shop GET /yes", now=now)


def test_a_suspect_is_held_for_longer_each_time() -> None:
    """2 s, doubling to 15 minutes; an accepted replay ends it."""
    suspects, now, waits = Suspects(), 100.0, []
    for mint in range(11):
        assert not suspects.holds("a", now=now)
        suspects.refused_fresh("a", mint, now=now)
        began = now
        while suspects.holds("a", now=now):
            now += 1
        waits.append(now - began)

    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    suspects.refused_fresh("a", 11, now=now)
    assert not suspects.holds("b", now=now)
    suspects.cleared("a")
    assert not suspects.holds("a", now=now)


def test_a_suspect_without_refusals_is_forgotten() -> None:
    """After a quarter of an hour it begins with 2 s again."""
    suspects = Suspects()
    suspects.refused_fresh("a", 1, now=0)
    suspects.refused_fresh("a", 2, now=2)
    suspects.refused_fresh("a", 3, now=6 + 900)

    assert suspects.holds("a", now=907)
    assert not suspects.holds("a", now=908)


def test_suspects_are_bounded() -> None:
    """A caller that tries all paths is remembered by its last thousand."""
    suspects = Suspects()
    for number in range(1001):
        suspects.refused_fresh(str(number), 1, now=0)

    assert len(suspects) == 1000
    assert not suspects.holds("0", now=1)
    assert suspects.holds("1", now=1)
    suspects.clear()
    assert len(suspects) == 0


@pytest.mark.parametrize(
    ("source", "suspect", "works", "withdrawn"),
    [
        ("b", False, False, True),
        ("a", False, False, False),
        ("b", True, False, False),
        ("b", False, True, False),
    ],
    ids=["two are refused", "the same again", "one that is always refused", "others are served"],
)
def test_when_a_token_in_doubt_is_withdrawn(source: str, suspect: bool, works: bool, withdrawn: bool) -> None:  # noqa: FBT001
    """If two were refused and nobody was served."""
    assert Doubt(1, "a", 0.0, works).withdraws(source, suspect=suspect) is withdrawn
