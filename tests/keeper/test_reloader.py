"""Steps of a reload: the keys for bodies, of which none that was opened in vain stays open, and what may break."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.checks.offline import checked
from proxy.clock import SystemClock
from proxy.credentials.body_signer import BodySigner
from proxy.credentials.signing_key import remote_key
from proxy.entropy import SystemEntropy
from proxy.events import Event
from proxy.keeper.body_signatures import BodySignatures
from proxy.keeper.followers import Followers
from proxy.keeper.generation import Generation
from proxy.keeper.generations import Generations
from proxy.keeper.reload import Reloader, ReloadRefused
from proxy.keeper.rotation import Prover
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings
from tests.journeys.support import configured
from tests.keeper.test_body_signatures import KEY, Device
from tests.settings.support import load_text

RULE = """
[[routes]]
name = "{name}"
path = "/{name}"
upstream = "simulator"
credential = "mock"
signature = {{private_key_uri = "pkcs11:token=t;object={name}?module-path=/usr/lib/p11.so&pin-source=file:/etc/pin"}}
"""


class Active:
    """The configuration in force, as far as a reload of keys for bodies looks at it."""

    def __init__(self, settings: Settings, signatures: BodySignatures) -> None:
        self.settings = settings
        self.signatures = signatures


def settings_of(directory: Path, *names: str) -> Settings:
    """Return settings whose rules *names* have keys in a token."""
    directory.mkdir()
    text = configured(directory, "http://127.0.0.1:9").read_text() + "".join(RULE.format(name=name) for name in names)
    loaded: Loaded = load_text(directory, text)
    assert loaded.settings is not None, list(map(str, loaded.findings))
    return loaded.settings


def signer(device: Device, *foreign: RSAPublicKey) -> BodySigner:
    """Return a signer by the key in *device*."""
    return BodySigner(remote_key(device, name="device"), foreign=foreign)


def reloader(active: Active, **changes: Any) -> Reloader:
    """Return what reloads, beside *active*, with *changes* to what it calls."""

    async def nothing(*_: Any) -> str:
        return ""

    clock, events = SystemClock(), list[Event]()
    current = Generations(cast("Generation", active), clock=clock)
    parts: dict[str, Any] = {
        "read": lambda _: pytest.fail("not read"),
        "make": lambda *_: pytest.fail("not made"),
        "generations": current,
        "prover": Prover(clock=clock, entropy=SystemEntropy(), observe=events.append),
        "followers": Followers({}, clock=clock, observe=events.append, lock=asyncio.Lock()),
        "objection": nothing,
        "hand_over": nothing,
        "lock": asyncio.Lock(),
        "clock": clock,
        "observe": events.append,
    }
    return Reloader(**parts | changes)


def in_force(signers: dict[tuple[str, ...], BodySigner]) -> BodySignatures:
    """Return the keys of the configuration in force."""
    return BodySignatures(signers, callers=(), clock=SystemClock(), observe=list[Event]().append, count=lambda *_: None)


async def test_a_device_that_was_opened_in_vain_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbour is away, so that the configuration is refused."""
    good, away = Device(), Device()
    away.fault = "the token is not there"
    made = {("one",): signer(good), ("two",): signer(away)}
    monkeypatch.setattr("proxy.keeper.reload.load_body_signers", lambda _: made)

    with pytest.raises(ReloadRefused, match="the token is not there"):
        await reloader(Active(settings_of(tmp_path / "a"), in_force({})))._signers(
            settings_of(tmp_path / "b", "one", "two")
        )

    assert (good.began, good.closed, away.closed) == (1, 1, 1)


async def test_a_key_in_use_becomes_no_credential_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device that stays open is compared with the keys of the credentials to come; it goes on signing."""
    settings = settings_of(tmp_path / "a", "one")
    device = Device()
    used = signer(device)
    await used.prove()
    now = reloader(Active(settings, in_force({("one",): used})))
    monkeypatch.setattr(
        "proxy.keeper.reload.load_body_signers", lambda _: {("one",): signer(Device(), KEY.public_key())}
    )
    with pytest.raises(ReloadRefused, match="signs the assertions of a credential"):
        await now._signers(settings)

    monkeypatch.setattr("proxy.keeper.reload.load_body_signers", lambda _: {("one",): signer(Device())})
    assert await now._signers(settings) == {("one",): used}
    assert device.closed == 0


async def test_an_objection_that_breaks_keeps_the_old(tmp_path: Path) -> None:
    """Of what the log holds, nothing may end the keeper, and all callers with it."""

    async def objection(_: Settings) -> str:
        raise ZeroDivisionError

    directory = tmp_path / "a"
    settings = settings_of(directory)
    it = reloader(
        Active(settings, in_force({})),
        read=lambda checks: checked(load_text(directory, (directory / "payproxy.toml").read_text()), checks),
        objection=objection,
    )
    await it.reload()

    assert "ZeroDivisionError" in it.problem


async def test_the_log_is_read_without_the_lock(tmp_path: Path) -> None:
    """A day of it may take minutes; a new key must not wait for that."""
    directory, lock, locked = tmp_path / "a", asyncio.Lock(), list[bool]()
    settings = settings_of(directory)

    async def objection(_: Settings) -> str:
        locked.append(lock.locked())
        return "not now"

    it = reloader(
        Active(settings, in_force({})),
        read=lambda checks: checked(load_text(directory, (directory / "payproxy.toml").read_text()), checks),
        objection=objection,
        lock=lock,
    )
    await it.reload()

    assert locked == [False]
    assert "not now" in it.problem
