import pytest

from proxy.entropy import SystemEntropy
from proxy.simulator import access_tokens
from proxy.simulator.access_tokens import AccessTokens, fingerprint, granted_audience
from proxy.simulator.clients import Client, Flavor
from tests.support.clock import ManualClock

CLIENT = Client(client_id="c", flavor=Flavor.MOCK, jwt_tokens=False)


@pytest.fixture
def clock() -> ManualClock:
    """Time that stands still."""
    return ManualClock()


@pytest.fixture
def tokens(clock: ManualClock) -> AccessTokens:
    """A store of tokens on that clock."""
    return AccessTokens(entropy=SystemEntropy(), monotonic=clock.monotonic, now=clock.now)


def issue(tokens: AccessTokens, client: Client = CLIENT, *, audience: str = "a", lifetime: float = 10) -> str:
    """Issue a token."""
    return tokens.issue(client, issuer="i", audience=audience, scope="", lifetime=lifetime)


async def test_a_token_lives_its_lifetime(tokens: AccessTokens, clock: ManualClock) -> None:
    """Live until the last moment, then expired, by the monotonic clock alone."""
    issued = tokens.find(issue(tokens))
    assert issued is not None

    clock.set_wall(0)
    await clock.advance(9.9)
    assert issued.state(clock.monotonic()) == "live"
    await clock.advance(0.1)
    assert issued.state(clock.monotonic()) == "expired"


def test_tokens_are_revoked_by_what_is_given(tokens: AccessTokens) -> None:
    """One by fingerprint, one client's, or all."""
    one, two = issue(tokens), issue(tokens)
    other = issue(tokens, Client(client_id="d", flavor=Flavor.MOCK, jwt_tokens=False))
    states = []
    for how in ({"fingerprint": fingerprint(one)}, {"client_id": "c"}, {}):
        killed = tokens.revoke(**how)
        states.append((killed, [issued.revoked for issued in tokens]))

    assert states == [(1, [True, False, False]), (1, [True, True, False]), (1, [True, True, True])]
    assert {one, two, other} == set(tokens._issued)


@pytest.mark.parametrize("flavor", list(Flavor))
def test_two_mints_at_one_moment_differ(tokens: AccessTokens, flavor: Flavor) -> None:
    """Also JWTs of the same second are different strings."""
    client = Client(client_id="c", flavor=flavor)

    assert issue(tokens, client) != issue(tokens, client)


def test_the_latest_token_is_found(tokens: AccessTokens) -> None:
    """Per client and audience."""
    issue(tokens)
    newest = issue(tokens)
    issue(tokens, audience="b")

    assert tokens.latest(CLIENT, audience="a") == newest
    assert tokens.latest(CLIENT, audience="x") == ""


def test_the_oldest_tokens_are_forgotten(tokens: AccessTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is bounded."""
    monkeypatch.setattr(access_tokens, "MAX_TOKENS", 2)
    first, second, third = (issue(tokens) for _ in range(3))

    assert tokens.find(first) is None
    assert tokens.find(second)
    assert tokens.find(third)


def test_the_granted_audience_is_not_the_asked_one() -> None:
    """As in the bank's own example."""
    assert granted_audience("jpm:uri:prod:payments") == "jpmc:uri:prod:payments:commerce"
