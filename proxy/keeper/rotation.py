"""Takes new keys, secrets, certificates and CA files while running: tested first; if refused the old ones stay."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from proxy.clock import Clock
from proxy.credentials.body_signer import BodySigner, assertion_keys, keys_for_bodies
from proxy.credentials.credential import Credential, CredentialUnusable
from proxy.credentials.keys import KeyUnusable
from proxy.credentials.remote_key import KeyUnavailable, PinRefused
from proxy.credentials.token_key import TokenKey
from proxy.entropy import Entropy
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import CredentialReplaced, Observer, ReplacementRefused, SigningKeyReplaced
from proxy.keeper.body_signatures import BodySignatures
from proxy.keeper.facade_keys import signing_key_files
from proxy.keeper.token_manager import TokenManager
from proxy.keeper.watch import FileWatch
from proxy.settings.credential import CredentialSection
from proxy.settings.model import Settings
from proxy.settings.signing_key import pin_file
from proxy.tokens.endpoint import NotSigned, TokenEndpoint
from proxy.tokens.schedule import outage_delay, refusal_delay

# A second poll must find the same content, so a new file is tried after one to two of these.
_LOOK_SECONDS = 1.0

# How often to look whether somebody has logged in to a token that refused the PIN: each look starts a process.
_TOKEN_LOOK_SECONDS = 10.0

# Names of the groups of files for workers: TLS of the listener and towards the bank, and the facade's keys.
TLS = "TLS"
FACADE = "the facade"


class Prover:
    """Tests that a credential works, by minting one token that is not used."""

    def __init__(self, *, clock: Clock, entropy: Entropy, observe: Observer) -> None:
        self._clock = clock
        self._entropy = entropy
        self._observe = observe

    async def prove(self, credential: Credential, keys: Iterable[TokenKey]) -> None:
        """Mint for the first of *keys*; without keys only the files have been tested.

        Raises CredentialUnusable, TokenRefused or TokenUnavailable.
        """
        endpoint = TokenEndpoint(credential, clock=self._clock, entropy=self._entropy, observe=self._observe)
        try:
            for key in keys:
                await endpoint.mint(audience=key.audience, scope=key.scope)
                return
        finally:
            await endpoint.close()


class Rotation:
    """Watches the files of the active configuration; *token_manager* returns the current token manager.

    *signatures* returns the current keys for bodies. *renew* is called when files that the workers read have changed,
    and raises OSError or ValueError if they can't be used. *replaced* is called after any replacement. `problems` says,
    by credential, what was refused and why.
    """

    def __init__(
        self,
        *,
        token_manager: Callable[[], TokenManager],
        signatures: Callable[[], BodySignatures],
        renew: Callable[[], Awaitable[None]],
        replaced: Callable[[], Awaitable[None]],
        lock: asyncio.Lock,
        clock: Clock,
        entropy: Entropy,
        observe: Observer,
    ) -> None:
        self.problems: dict[str, str] = {}
        self._token_manager = token_manager
        self._signatures = signatures
        self._renew = renew
        self._replaced = replaced
        self._lock = lock
        self._clock = clock
        self._entropy = entropy
        self._observe = observe
        self._prover = Prover(clock=clock, entropy=entropy, observe=observe)
        self._sections: Mapping[str, CredentialSection] = {}
        self._settings: Settings | None = None
        self._keys: dict[str, tuple[str, ...]] = {}  # the rules of each key for bodies, by its name here
        self._watch = FileWatch({})
        self._failures: dict[str, int] = {}
        self._again: dict[str, float] = {}
        self._told: dict[str, str] = {}  # refusals that are not told again while the token only is looked at
        self._unread = True

    def follow(self, settings: Settings) -> None:
        """Watch the files of *settings* and forget earlier refusals; it reads the files, so call it in a thread."""
        self._watch = FileWatch(_groups(settings))
        self._sections = settings.credentials
        self._settings = settings
        self._keys = {_name_of(routes): routes for routes in keys_for_bodies(settings.routes)}
        self.problems = {}
        self._failures = {}
        self._again = {}
        self._told = {}
        self._unread = True

    async def run(self) -> None:
        """Check the files every second, until cancelled."""
        while True:
            if self._unread:
                self._unread = False
                await self._catch_up()
            await self._clock.sleep(_LOOK_SECONDS)
            now = self._clock.monotonic()
            changed = await asyncio.to_thread(self._watch.look)
            for name in changed:
                self._failures.pop(name, None)
                self._told.pop(name, None)
            for name in dict.fromkeys([*changed, *(name for name, due in self._again.items() if due <= now)]):
                self._again.pop(name, None)
                async with self._lock:
                    await self._take(name)

    async def _catch_up(self) -> None:
        """Take files that were replaced after the credentials were loaded and before the watch started."""
        for name in tuple(self._sections):
            async with self._lock:
                known = self._token_manager().credential(name)
                if known is None or name not in self._sections:
                    continue
                if await self._changed(name, known):
                    await self._take(name)
        for name in tuple(self._keys):
            async with self._lock:
                if await self._key_changed(name):
                    await self._take(name)

    async def _key_changed(self, name: str) -> bool:
        """Return whether the file of a key for bodies is another than the one in use; a device is not asked."""
        try:
            used = self._signatures().signers[self._keys[name]]
            return not used.remote and await (await self._loaded_key(name)).prove() != await used.prove()
        except Exception:  # noqa: BLE001 - `_take` reports it
            return True

    async def _changed(self, name: str, known: Credential) -> bool:
        """Return whether the files hold another key or secret than *known* has."""
        try:
            return not (await self._loaded(name)).same_key(known)
        except Exception:  # noqa: BLE001 - `_take` reports it
            return True

    async def _take(self, name: str) -> None:
        whole = name in {TLS, FACADE} or name in self._keys
        take = self._take_key if name in self._keys else self._take_for_workers if whole else self._take_credential
        try:
            await take(name)
        except Exception as error:  # noqa: BLE001 - a defect must not end a keeper that serves with the old files
            what = name if whole else f"credential {name}"
            self._refuse(what, name, f"a defect of the proxy: {type(error).__name__}", retry_in=0)

    async def _take_credential(self, name: str) -> None:
        tokens = self._token_manager()
        if tokens.credential(name) is None or name not in self._sections:
            return  # removed by a reload meanwhile
        try:
            credential = await self._loaded(name, shared=True)
            self._signatures().forbid(await asyncio.to_thread(assertion_keys, [self._sections[name]]))
            await self._prover.prove(credential, tokens.keys(name))
            await tokens.replace_credential(name, credential)
        except (CredentialUnusable, KeyUnusable) as error:
            self._refuse(f"credential {name}", name, str(error).removeprefix(f"credential {name}: "), retry_in=0)
        except (TokenRefused, TokenUnavailable) as error:
            delay = self._delay(name, error)
            self._look_again(name, delay, clears=isinstance(error, NotSigned) and error.pin_clears)
            self._refuse(f"credential {name}", name, f"{error.detail} {error.cause}", retry_in=delay)
        else:
            await self._taken(name)
            self._observe(CredentialReplaced(credential=name, fingerprint=credential.fingerprint))

    async def _take_key(self, name: str) -> None:
        """Take a new key for bodies once it has made a signature; one whose device is away is tried again."""
        routes, signer = self._keys[name], None
        try:
            signer = await self._loaded_key(name)
            thumbprint = await signer.prove()
        except KeyUnusable as error:
            if signer is not None:
                await signer.close()
            delay = refusal_delay(1) if isinstance(error, KeyUnavailable) else 0
            self._look_again(name, delay, clears=isinstance(error, PinRefused) and error.clears)
            self._refuse(name, name, str(error), retry_in=delay)
        else:
            await self._signatures().replace(routes, signer)
            await self._taken(name)
            self._observe(SigningKeyReplaced(routes=routes, thumbprint=thumbprint))

    async def _loaded_key(self, name: str) -> BodySigner:
        assert self._settings is not None  # noqa: S101 - there are no names before `follow`
        section = keys_for_bodies(self._settings.routes)[self._keys[name]]
        foreign = await asyncio.to_thread(assertion_keys, self._sections.values())
        return await asyncio.to_thread(BodySigner.load, section, foreign=foreign)

    async def _take_for_workers(self, name: str) -> None:
        try:
            await self._renew()
        except (OSError, ValueError) as error:
            self._refuse(name, name, str(error), retry_in=0)
        else:
            await self._taken(name)

    async def _loaded(self, name: str, *, shared: bool = False) -> Credential:
        return await asyncio.to_thread(Credential.load, self._sections[name], name=name, shared=shared)

    def _delay(self, name: str, error: TokenRefused | TokenUnavailable) -> float:
        """Return seconds until the same files are retried: the bank may learn of a new certificate later.

        0: they are not retried before they change; each try with a wrong PIN brings the token nearer to its lock.
        """
        if isinstance(error, NotSigned) and error.pin_refused:
            return 0
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if isinstance(error, TokenRefused):
            return refusal_delay(failures)
        return float(error.retry_after or outage_delay(failures, jitter=self._entropy.uniform(0, 1)))

    def _look_again(self, name: str, delay: float, *, clears: bool) -> None:
        """Take the files again after *delay*; if 0 and *clears*, when a look at the token shows that it is worth it."""
        if delay or clears:
            self._again[name] = self._clock.monotonic() + (delay or _TOKEN_LOOK_SECONDS)

    def _refuse(self, what: str, name: str, cause: str, *, retry_in: float) -> None:
        self.problems[name] = f"new files of {what} refused, the old ones stay in use: {cause}"
        if not retry_in and self._told.get(name) == cause:
            return  # the token was looked at only
        self._told[name] = cause
        self._observe(ReplacementRefused(what=what, cause=cause, retry_in=retry_in))

    async def _taken(self, name: str) -> None:
        self.problems.pop(name, None)
        self._failures.pop(name, None)
        self._told.pop(name, None)
        await self._replaced()

    def __repr__(self) -> str:
        return f"<Rotation {self._watch!r}, {len(self.problems)} refused>"


def _name_of(routes: tuple[str, ...]) -> str:
    """Return the name of the files of a key for bodies: with blanks, so that no credential is called like it."""
    return f"the key for bodies of {', '.join(routes)}"


def _groups(settings: Settings) -> dict[str, list[str]]:
    groups = {
        name: [
            one.private_key_file,
            one.private_key_passphrase_file,
            one.pin_file,
            one.certificate_file,
            one.client_secret_file,
            one.ca_file,
            one.client_certificate_file,
            one.client_key_file,
        ]
        for name, one in settings.credentials.items()
    }
    for routes, key in keys_for_bodies(settings.routes).items():
        files = [key.private_key_file, key.private_key_passphrase_file, pin_file(key), key.certificate_file]
        groups[_name_of(routes)] = files
    server = settings.server
    groups[TLS] = [server.certificate_file, server.key_file, server.client_ca_file]
    for upstream in settings.upstreams.values():
        groups[TLS] += [upstream.ca_file, upstream.client_certificate_file, upstream.client_key_file]
    groups[FACADE] = signing_key_files(settings)
    for caller in settings.callers.values():
        groups[FACADE] += caller.assertion_certificate_files
    return groups
