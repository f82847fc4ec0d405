"""Reload on SIGHUP: read, check and test the configuration, then switch to new workers; on failure keep the old one."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from proxy.checks.files import check_settings_files
from proxy.checks.reading import Checks, Read
from proxy.clock import Clock
from proxy.credentials.body_signer import BodySigner, keys_for_bodies, load_body_signers
from proxy.credentials.credential import Credential, CredentialUnusable
from proxy.credentials.keys import KeyUnusable
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import ConfigurationRefused, ConfigurationReplaced, Observer
from proxy.keeper.body_signatures import Signers, close_unused
from proxy.keeper.configuration_process import ConfigurationNotRead
from proxy.keeper.followers import Followers
from proxy.keeper.generation import Generation
from proxy.keeper.generations import Generations
from proxy.keeper.rotation import Prover
from proxy.routing.compile import route_table
from proxy.settings.findings import Severity
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of

# The first errors usually cause the others; `payproxy check` shows all.
_MOST_FAULTS = 3

# Settings that apply at start only: sockets, the data directory's lock, sinks with a position in the journal.
_AT_RESTART: Mapping[str, tuple[str, ...]] = {
    "server": ("listen", "workers"),
    "admin": ("listen", "console", "hosts", "certificate_file", "key_file"),
    "request_log": ("stdout", "file", "database", "database_file"),
    "state": ("url", "url_file", "ca_file", "encryption_key_files"),
}

Make = Callable[[Settings, Mapping[str, Credential], Signers], Generation]


class ReloadRefused(ValueError):
    """The configuration is rejected; the message gives the reason, without a secret."""


class Reloader:
    """Replaces the active generation; *read* reads the configuration, *make* builds a generation from it.

    *followers* follow each new generation. *objection* returns a further reason against a configuration, or "". So does
    *hand_over*, called when the new workers are ready and before they serve: the old workers refuse what it moves from
    then on. Call `reload` again only after it has returned.
    """

    def __init__(
        self,
        *,
        read: Read,
        make: Make,
        generations: Generations,
        prover: Prover,
        followers: Followers,
        objection: Callable[[Settings], Awaitable[str]],
        hand_over: Callable[[Settings], Awaitable[str]],
        lock: asyncio.Lock,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self._refused = ""
        self._read = read
        self._make = make
        self._generations = generations
        self._prover = prover
        self._followers = followers
        self._objection = objection
        self._hand_over = hand_over
        self._lock = lock
        self._clock = clock
        self._observe = observe

    @property
    def problem(self) -> str:
        """Return why the last reload was refused and what does not follow the one in force, "" if all is well."""
        refused = f"the last reload was refused: {self._refused}" if self._refused else ""
        return "; ".join(filter(None, (refused, self._followers.problem)))

    async def reload(self) -> None:
        """Read the configuration and switch to it, or report why not."""
        try:
            # Without the lock: the log of a day may take minutes, and a new key or secret must not wait for that.
            settings, at_restart = await self._judged()
            async with self._lock:
                credentials = await self._credentials(settings)
                signers = await self._signers(settings)
                await self._succeed(settings, credentials, signers, at_restart=at_restart)
        except ReloadRefused as refused:
            self._refused = str(refused)
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves the old configuration
            self._refused = f"a defect of the proxy: {type(error).__name__}"
        else:
            self._refused = ""
        if self._refused:
            self._observe(ConfigurationRefused(cause=self._refused))

    async def renew(self) -> None:
        """Start new workers with the same configuration, to read the TLS and facade files again.

        Raises Refused if they can't be used. The caller must hold the lock.
        """
        settings = self._generations.current.settings
        checked = await asyncio.to_thread(check_settings_files, settings, now=self._clock.now(), devices=False)
        faults = [
            f"{'.'.join(map(str, one.key))}: {one.what}; {one.fix}"
            for one in checked.complaints
            if one.severity is Severity.ERROR and one.key[0] in {"server", "upstreams", "facade", "callers"}
        ]
        if faults:
            raise ReloadRefused("; ".join(faults[:_MOST_FAULTS]))
        mints = self._generations.current.token_manager
        credentials = {name: one for name in settings.credentials if (one := mints.credential(name)) is not None}
        await self._succeed(settings, credentials, self._generations.current.signatures.signers)

    async def _judged(self) -> tuple[Settings, tuple[str, ...]]:
        """Return the new settings with start-only keys left unchanged, and the names of those keys."""
        try:
            checked = await asyncio.to_thread(self._read, Checks(now=self._clock.now()))
        except Exception as error:  # noqa: BLE001 - an unforeseen file must not end a running proxy
            why = str(error) if isinstance(error, ConfigurationNotRead) else type(error).__name__
            raise ReloadRefused(f"it can't be read: {why}; run `payproxy check`") from None
        errors = [str(finding) for finding in checked.findings if finding.severity is Severity.ERROR]
        loaded = checked.loaded
        if loaded.settings is None or errors:
            more = f" (and {len(errors) - _MOST_FAULTS} more)" if len(errors) > _MOST_FAULTS else ""
            raise ReloadRefused(" | ".join(errors[:_MOST_FAULTS]) + more)
        settings, at_restart = as_at_start(loaded.settings, self._generations.current.settings)
        try:
            objection = await self._objection(settings)
        except Exception as error:  # noqa: BLE001 - nor may an unforeseen record of the log
            raise ReloadRefused(_defect("it can't be judged by the log", error)) from None
        if objection:
            raise ReloadRefused(objection)
        return settings, at_restart

    async def _credentials(self, settings: Settings) -> dict[str, Credential]:
        """Return the credentials of *settings*; test those that are new or changed by minting a token."""
        mints = self._generations.current.token_manager
        keys = list(route_table(snapshot_of(settings, instance="")).origins())
        credentials = {}
        for name, section in settings.credentials.items():
            try:
                credential = await asyncio.to_thread(Credential.load, section, name=name, shared=settings.state.shared)
                if not _same(credential, mints.credential(name)):
                    await self._prover.prove(credential, [key for key in keys if key.credential == name])
            except CredentialUnusable as error:
                raise ReloadRefused(str(error)) from None
            except (TokenRefused, TokenUnavailable) as error:
                raise ReloadRefused(
                    f"credential {name}, which is new or changed: {error.detail} {error.cause}"
                ) from None
            except Exception as error:  # noqa: BLE001 - nor may an unforeseen key
                raise ReloadRefused(_defect(f"credential {name}", error)) from None
            credentials[name] = credential
        return credentials

    async def _signers(self, settings: Settings) -> dict[tuple[str, ...], BodySigner]:
        """Return the keys for bodies of *settings*; have those that are new in a device make a signature.

        A device that was in use stays open: it is not asked, since it may be away.
        """
        current = self._generations.current
        known = keys_for_bodies(current.settings.routes)
        same = {section.identity: current.signatures.signers[routes] for routes, section in known.items()}
        wanted = keys_for_bodies(settings.routes)
        signers: dict[tuple[str, ...], BodySigner] = {}
        try:
            signers = await asyncio.to_thread(load_body_signers, settings)
            for routes, signer in signers.items():
                before = same.get(wanted[routes].identity)
                if signer.remote and before is not None:
                    before.forbid(signer.foreign)
                    signers[routes] = before
                elif signer.remote:
                    await signer.prove()
        except Exception as error:  # noqa: BLE001 - as above
            await close_unused(signers.values())
            defect = _defect("a key for bodies", error)
            raise ReloadRefused(str(error) if isinstance(error, KeyUnusable) else defect) from None
        return signers

    async def _succeed(
        self,
        settings: Settings,
        credentials: Mapping[str, Credential],
        signers: Signers,
        *,
        at_restart: tuple[str, ...] = (),
    ) -> None:
        new = await self._made(settings, credentials, signers)
        old = self._generations.current
        if objection := await self._generations.succeed(new, hand_over=lambda: self._handed_over(settings)):
            undone = await self._handed_over(old.settings)
            raise ReloadRefused("; taken back: ".join(filter(None, (objection, undone))))
        await self._followers.follow(new)
        self._observe(ConfigurationReplaced(digest=new.snapshot.digest, at_restart=at_restart))

    async def _made(self, settings: Settings, credentials: Mapping[str, Credential], signers: Signers) -> Generation:
        """Return a new generation that has the live tokens; raise ReloadRefused, with what was opened for it closed."""
        try:
            new = self._make(settings, credentials, signers)
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves the old configuration
            await close_unused(signers.values())
            known = isinstance(error, CredentialUnusable | KeyUnusable | OSError)
            raise ReloadRefused(str(error) if known else _defect("the new workers", error)) from None
        try:
            new.token_manager.adopt(self._generations.current.token_manager)
        except Exception as error:  # noqa: BLE001 - as above
            await new.token_manager.close()
            await new.signatures.close()
            raise ReloadRefused(_defect("the tokens in use", error)) from None
        return new

    async def _handed_over(self, settings: Settings) -> str:
        """Return what objects to *settings*, or what broke, "" if nothing."""
        try:
            return await self._hand_over(settings)
        except Exception as error:  # noqa: BLE001 - as above
            return _defect("the migrations", error)


async def on_signal(reload: Callable[[], Awaitable[None]]) -> None:
    """Await *reload* for each SIGHUP, one after the other; several that come meanwhile count as one."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    while True:
        await asked.wait()
        asked.clear()
        await reload()


def _defect(what: str, error: Exception) -> str:
    return f"{what}: a defect of the proxy: {type(error).__name__}"


def _same(one: Credential, other: Credential | None) -> bool:
    """Return whether both have the same client, endpoint and method (a signer is compared by fingerprint)."""
    return other is not None and replace(one, signer=None) == replace(other, signer=None)


def as_at_start(new: Settings, old: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return *new* with the start-only keys of *old*, and the names of those keys that differ."""
    changed: list[str] = []
    sections: dict[str, Any] = {}
    for section, keys in _AT_RESTART.items():
        mine, theirs = getattr(new, section), getattr(old, section)
        differing = {key: getattr(theirs, key) for key in keys if getattr(mine, key) != getattr(theirs, key)}
        changed += [f"{section}.{key}" for key in differing]
        sections[section] = replace(mine, **differing)
    for key in ("environment", "instance", "data_directory"):
        if getattr(new, key) != getattr(old, key):
            changed.append(key)
            sections[key] = getattr(old, key)
    return replace(new, **sections), tuple(changed)
