"""The keeper's side of signed bodies: what workers ask for, in turn, bounded in number and time."""

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.utils import base64url_decode

from proxy.clock import SystemClock
from proxy.credentials.body_signer import BodySigner
from proxy.credentials.keys import KeyUnusable, key_thumbprint
from proxy.credentials.remote_key import KeyUnavailable
from proxy.credentials.signing_key import remote_key
from proxy.events import Event, SigningFailed, SigningRecovered
from proxy.keeper.body_signatures import BodySignatures
from proxy.link.counts import SignatureCount
from proxy.link.messages import SignatureAnswer, SignatureRequest
from proxy.link.shared_limits import MOST_SIGNATURES_WAITING
from proxy.settings.signature import SignatureSection
from tests.credentials.support_keys import make_pair
from tests.support.clock import ManualClock
from tests.upstream.support import eventually

KEY = generate_private_key(65537, 2048)
INPUT = b"header.payload"
CALLERS = ("erp", "treasury", "shop")
DIGEST = hashlib.sha256(INPUT).hexdigest()


class Device:
    """A device that signs, fails or waits as told."""

    def __init__(self) -> None:
        self.fault = ""
        self.go = threading.Event()
        self.go.set()
        self.began = 0
        self.closed = 0
        self.order: list[bytes] = []

    def public_key(self) -> RSAPublicKey:
        """Return the public half."""
        return KEY.public_key()

    def sign(self, signing_input: bytes) -> bytes:
        """The keeper has no signing input of a body."""
        raise NotImplementedError

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign, or do what is told."""
        self.began += 1
        self.go.wait(60)
        if self.fault == "defect":
            raise ZeroDivisionError
        if self.fault:
            raise KeyUnavailable(self.fault)
        self.order.append(digest)
        return KEY.sign(digest, PKCS1v15(), Prehashed(SHA256()))

    def close(self) -> None:
        """Note it."""
        self.closed += 1

    def abort(self) -> None:
        """Let a call that waits end."""
        self.go.set()


@dataclass(kw_only=True)
class Place:
    """What signs, and what came of it."""

    signatures: BodySignatures
    events: list[Event]
    counts: Counter[tuple[str, str]]
    answers: list[SignatureAnswer] = field(default_factory=list)

    def ask(self, number: int, *, worker: str = "w0", route: str = "pay", caller: str = "erp") -> None:
        """Ask as a worker."""
        self.signatures.request(worker, SignatureRequest(number, route, DIGEST, caller), self.answers.append)

    async def answered(self, count: int) -> None:
        """Wait for *count* answers."""
        await eventually(lambda: len(self.answers) >= count)


@asynccontextmanager
async def signing(signer: BodySigner, clock: Any = None) -> AsyncIterator[Place]:
    """Sign for the rules pay and more while the block lasts."""
    events, counts = list[Event](), Counter[tuple[str, str]]()
    signatures = BodySignatures(
        {("pay", "more"): signer},
        callers=CALLERS,
        clock=clock or SystemClock(),
        observe=events.append,
        count=lambda route, outcome, amount=1.0: counts.update({(route, outcome): int(amount)}),
    )
    running = asyncio.create_task(signatures.run())
    try:
        yield Place(signatures=signatures, events=events, counts=counts)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await signatures.close()


async def held_up(device: Device, it: Place) -> None:
    """Wait until *device* has made its trial and works on the request 0, which it does not finish."""
    await eventually(lambda: len(device.order) == 1)
    device.go.clear()
    it.ask(0)
    await eventually(lambda: device.began == 2)


async def test_a_digest_becomes_a_signature() -> None:
    """It is one of what has the digest (RFC 7518 3.3), and the answer names the key."""
    async with signing(BodySigner(KEY)) as it:
        it.ask(7, route="more")
        await it.answered(1)

    [answer] = it.answers
    assert (answer.ask, answer.key, answer.cause) == (7, key_thumbprint(KEY.public_key()), "")
    KEY.public_key().verify(base64url_decode(answer.signature), INPUT, PKCS1v15(), SHA256())
    assert it.counts == {("more", "signed"): 1}


async def test_workers_take_turns() -> None:
    """One that asks for much delays another by one signature."""
    device = Device()
    async with signing(BodySigner(remote_key(device, name="device"))) as it:
        await held_up(device, it)
        for number in range(1, 6):
            it.ask(number)
        it.ask(100, worker="w1")
        device.go.set()
        await it.answered(7)

    assert [answer.ask for answer in it.answers][:3] == [0, 1, 100]


async def test_callers_take_turns() -> None:
    """On whichever worker; one that asks for much delays another by one signature, and made-up ones are one."""
    device = Device()
    async with signing(BodySigner(remote_key(device, name="device"))) as it:
        await held_up(device, it)
        for number in range(1, 9):
            it.ask(number, worker=f"w{number % 4}")
            it.ask(10 + number, caller=f"invented-{number}")
        it.ask(100, caller="shop")
        it.ask(101, caller="treasury", worker="w1")
        device.go.set()
        await it.answered(19)

    assert [answer.ask for answer in it.answers][:5] == [0, 1, 11, 100, 101]


async def test_a_worker_has_a_bound() -> None:
    """Beyond it the answer comes at once; another worker is not affected."""
    device = Device()
    async with signing(BodySigner(remote_key(device, name="device"))) as it:
        await held_up(device, it)
        for number in range(MOST_SIGNATURES_WAITING + 1):
            it.ask(number)
        it.ask(7, worker="w1")
        assert [answer.signature for answer in it.answers] == [""]
        assert it.counts == {("pay", "overloaded"): 1}
        device.go.set()
        await it.answered(MOST_SIGNATURES_WAITING + 3)

    assert it.counts["pay", "signed"] == MOST_SIGNATURES_WAITING + 2


async def test_who_waited_too_long_gets_none() -> None:
    """Its worker has given up by then."""
    device, clock = Device(), ManualClock()
    async with signing(BodySigner(remote_key(device, name="device")), clock) as it:
        await eventually(lambda: len(device.order) == 1)
        device.go.clear()
        it.ask(0)
        it.ask(1)
        await eventually(lambda: device.began == 2)
        await clock.advance(5.1)
        device.go.set()
        await it.answered(2)

    assert [bool(answer.signature) for answer in it.answers] == [True, False]
    assert it.counts["pay", "late"] == 1


async def test_failures_are_said_once_and_end() -> None:
    """The cause is for the operator; a defect shows its type only."""
    device = Device()
    device.fault = "the token is not there"
    async with signing(BodySigner(remote_key(device, name="device"))) as it:
        await eventually(lambda: len(it.events) == 1)  # by the trial
        it.ask(0)
        await it.answered(1)
        device.fault = "defect"
        it.ask(1)
        await it.answered(2)
        device.fault = ""
        it.ask(2)
        await it.answered(3)

    assert it.events == [
        SigningFailed(routes=("pay", "more"), cause="the token is not there"),
        SigningRecovered(routes=("pay", "more")),
    ]
    assert [answer.cause for answer in it.answers] == [
        "the token is not there",
        "a defect of the proxy: ZeroDivisionError",
        "",
    ]


async def test_a_rule_that_a_worker_makes_up() -> None:
    """It gets no signature, and no row in the metrics."""
    async with signing(BodySigner(KEY)) as it:
        it.ask(1, route="made up")

    assert [answer.signature for answer in it.answers] == [""]
    assert not it.counts


async def test_a_new_key_signs_from_the_next_on() -> None:
    """The old one's device is closed, unless another generation uses it."""
    old, new = Device(), BodySigner(generate_private_key(65537, 2048))
    signer = BodySigner(remote_key(old, name="old"))
    signer.users += 1  # another generation
    async with signing(signer) as it:
        it.ask(0)
        await it.answered(1)
        await it.signatures.replace(("pay", "more"), new)
        it.ask(1)
        await it.answered(2)

    first, second = it.answers
    assert first.key != second.key
    assert old.closed == 0


async def test_the_key_of_a_credential_signs_nothing(tmp_path: Path) -> None:
    """In a file it is refused when it is loaded, in a device after the first signature, which nobody gets."""
    key, certificate = make_pair(tmp_path)
    section = SignatureSection(private_key_file=str(key), certificate_file=str(certificate))
    with pytest.raises(KeyUnusable, match="signs the assertions of a credential"):
        BodySigner.load(section, foreign=[BodySigner.load(section)._key.public_key()])
    async with signing(BodySigner(remote_key(Device(), name="device"), foreign=[KEY.public_key()])) as it:
        it.ask(1)
        await it.answered(1)
    assert it.answers[0].signature == ""
    assert "signs the assertions of a credential" in it.answers[0].cause


def test_the_thumbprint_of_the_standard() -> None:
    """RFC 7638 3.1."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5haj"
        "rn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = RSAPublicNumbers(65537, int.from_bytes(base64url_decode(n), "big")).public_key()

    assert key_thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


async def test_what_workers_refuse_is_counted_and_said_once() -> None:
    """The keeper knows of none of these requests; a worker's invention is passed over."""
    clock = ManualClock()
    refused = (SignatureCount("pay", "overloaded", 7.0), SignatureCount("pay", "signed", 9.0))
    async with signing(BodySigner(KEY), clock) as it:
        for _ in range(2):
            it.signatures.refused((*refused, SignatureCount("unknown", "overloaded", 1.0)))
            it.ask(1)
        await it.answered(2)
        assert it.counts == {("pay", "overloaded"): 14, ("pay", "signed"): 2}
        [said] = it.events
        assert isinstance(said, SigningFailed)
        assert "too many requests of a worker, or of one caller there, wait" in said.cause

        it.signatures.refused([SignatureCount("more", "unanswered", 1.0)])
        assert [type(one) for one in it.events] == [SigningFailed] * 2
        await clock.advance(61.0)
        it.ask(2)
        await it.answered(3)
        assert [type(one) for one in it.events] == [SigningFailed, SigningFailed, SigningRecovered]
