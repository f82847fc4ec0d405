"""Online checks of a configuration: connections, clocks, and a mint for each token it needs."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509

from proxy.checks.call import METHOD, PATH, call, takes_test_call
from proxy.checks.connect_error import Probed, connect_error, connected_line
from proxy.checks.diagnosis import OF_THE_CLIENT, Refusal, clock_off, diagnose, may_pass
from proxy.checks.files import check_settings_files
from proxy.checks.likely_causes import Evidence, clock
from proxy.checks.probe import destination_of, probe
from proxy.clock import Clock
from proxy.credentials.credential import Credential, CredentialUnusable
from proxy.credentials.keys import thumbprint
from proxy.credentials.token_key import TokenKey
from proxy.entropy import Entropy
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import ClockSkewMeasured, Event
from proxy.migration.side import Side
from proxy.routing.compile import route_table
from proxy.routing.table import Route, RouteSide
from proxy.settings.credential import CredentialSection
from proxy.settings.findings import Complaint, Finding, Key, Severity, in_order
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings, UpstreamSection
from proxy.settings.secret_text import doubtful
from proxy.settings.values import snapshot_of
from proxy.settings.worker_values import Snapshot
from proxy.tokens.endpoint import NotSigned, TokenEndpoint
from proxy.tokens.response import Minted, MintRefused
from proxy.tokens.token import fingerprint
from proxy.upstream.tls import TlsUnusable

# A person waits for the result; longer configured timeouts are for the service.
STEP_SECONDS = 10.0

# Variables that show how a machine reaches the internet; payproxy reads none of them.
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")


@dataclass(slots=True, kw_only=True)
class Online:
    """The result; *notes* report what succeeded.

    *may_pass*: there are errors, and all of them can end without a change here, as when an upload becomes active.
    """

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    may_pass: bool = False


async def check_online(
    loaded: Loaded,
    *,
    clock: Clock,
    entropy: Entropy,
    environ: Mapping[str, str],
    call_too: bool = False,
    offline: Iterable[Finding] = (),
) -> Online:
    """Return the online findings of *loaded*; with *call_too* also call the API through each route that takes the call.

    Runs concurrently; each step ends after 10 s. A credential that is refused as a whole is tried only once. Nothing is
    sent for a configuration with errors of its own, nor with a key in a token that can't be used, as the *offline*
    findings say: a wrong PIN must not be tried twice.
    """
    if loaded.settings is None:
        return Online(notes=["nothing was sent: the configuration has errors"])
    wrong = {(one.file, one.key) for one in offline if one.severity is Severity.ERROR}
    keys = {name: ("credentials", name, "private_key_uri") for name in loaded.settings.credentials}
    named = {name: loaded.positions.finding(Complaint(key=key, what="", fix="")) for name, key in keys.items()}
    unusable = frozenset(name for name, there in named.items() if (there.file, there.key) in wrong)
    check = _Check(loaded.settings, clock=clock, entropy=entropy, environ=environ, unusable=unusable)
    await check.run(call_too=call_too)
    findings = in_order(loaded.positions.finding(complaint) for complaint in check.complaints)
    return Online(findings=list(findings), notes=check.notes, may_pass=check.may_pass)


class _Check:
    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        entropy: Entropy,
        environ: Mapping[str, str],
        unusable: Collection[str],
    ) -> None:
        self.complaints: list[Complaint] = []
        self.notes: list[str] = []
        self._settings = settings
        self._unusable_keys = unusable
        self._snapshot: Snapshot = snapshot_of(settings, instance="check")
        self._clock = clock
        self._entropy = entropy
        self._variable = next((name for name in PROXY_VARIABLES if environ.get(name)), "")
        self._files = check_settings_files(settings, now=clock.now(), devices=False)
        self._minted: dict[TokenKey, Minted] = {}
        self._passing = 0

    @property
    def may_pass(self) -> bool:
        return 0 < self._passing == sum(one.severity is Severity.ERROR for one in self.complaints)

    async def run(self, *, call_too: bool) -> None:
        uses = _uses(route_table(self._snapshot).routes)
        credentials = dict.fromkeys(use.side.token_key.credential for use in uses)
        upstreams = dict.fromkeys(use.side.upstream for use in uses)
        async with asyncio.TaskGroup() as tasks:
            for name in credentials:
                tasks.create_task(self._credential(name, uses), name=f"credential {name}")
            probes = [tasks.create_task(self._upstream(name), name=f"upstream {name}") for name in upstreams]
        reached = {name for name, probed in zip(upstreams, probes, strict=True) if probed.result()}
        self._bound_tokens(uses)
        if call_too:
            await self._call([use for use in uses if use.side.upstream in reached])

    async def _credential(self, name: str, uses: Sequence["_Use"]) -> None:
        if name in self._unusable_keys:
            self.notes.append(f"{name}: nothing was sent, its key can't be used")
            return
        section = self._settings.credentials[name]
        skews: list[float] = []

        def observe(event: Event) -> None:
            if isinstance(event, ClockSkewMeasured):
                skews.append(event.seconds)

        try:
            loaded = Credential.load(section, name=name)
            credential = replace(loaded, timeout=min(loaded.timeout, STEP_SECONDS))
            endpoint = TokenEndpoint(credential, clock=self._clock, entropy=self._entropy, observe=observe)
        except CredentialUnusable as error:
            self._unusable(("credentials", name), str(error))
            return
        try:
            if await self._reachable(("credentials", name), "token_url", section):
                refusals = await self._mint(endpoint, _wanted(name, uses))
                self._explain(name, refusals, skew=skews[-1] if skews else None, credential=credential)
        finally:
            await endpoint.close()

    async def _upstream(self, name: str) -> bool:
        return await self._reachable(("upstreams", name), "url", self._settings.upstreams[name])

    async def _reachable(self, table: Key, url_key: str, section: CredentialSection | UpstreamSection) -> bool:
        """Return whether the server at the URL *url_key* of *section*, the table *table*, can be reached."""
        destination = destination_of(section, getattr(section, url_key))
        try:
            result = await probe(destination, clock=self._clock, seconds=STEP_SECONDS)
        except TlsUnusable as error:
            self._unusable(table, str(error))
            return False
        complaint = connect_error(result, Probed(table=table, url_key=url_key, proxy_variable=self._variable))
        if complaint is not None:
            self.complaints.append(complaint)
            return False
        self.notes.append(f"{table[1]}: {connected_line(result)}")
        return True

    async def _mint(self, endpoint: TokenEndpoint, wanted: Mapping[TokenKey, Key]) -> list[Refusal]:
        """Mint one token for each of *wanted*: one first, the rest concurrently unless the client was refused."""
        keys = list(wanted)
        refused = [await self._mint_one(endpoint, keys[0], wanted[keys[0]])]
        first = refused[0]
        if first is not None and first.kind in OF_THE_CLIENT:
            if keys[1:]:
                self.notes.append(f"{keys[0].credential}: {len(keys) - 1} more audiences were not tried")
        else:
            refused += await asyncio.gather(*(self._mint_one(endpoint, key, wanted[key]) for key in keys[1:]))
        return [refusal for refusal in refused if refusal is not None]

    async def _mint_one(self, endpoint: TokenEndpoint, key: TokenKey, required_by: Key) -> Refusal | None:
        try:
            minted = await endpoint.mint(audience=key.audience, scope=key.scope)
        except (TokenRefused, TokenUnavailable) as error:
            word = error.error if isinstance(error, MintRefused) else ""
            return Refusal(
                error=word,
                cause=error.cause,
                audience=key.audience,
                scope=key.scope,
                required_by=required_by,
                signed=not isinstance(error, NotSigned),
            )
        self._minted[key] = minted
        about = " ".join(part for part in (key.credential, key.audience, key.scope) if part)
        mark = fingerprint(minted.value.reveal())
        self.notes.append(f"{about}: token minted, valid for {minted.lifetime:.0f} s, fingerprint {mark}")
        return None

    def _explain(self, name: str, refusals: Iterable[Refusal], *, skew: float | None, credential: Credential) -> None:
        secret = credential.client_secret.reveal() if credential.client_secret else ""
        evidence = Evidence(
            name=name,
            section=self._settings.credentials[name],
            now=self._clock.now(),
            certificate=self._certificate(name),
            skew=skew,
            secret_doubt=doubtful(secret),
        )
        refusals = list(refusals)
        self.complaints += [diagnose(refusal, evidence, proxy_variable=self._variable) for refusal in refusals]
        self._passing += sum(may_pass(refusal, evidence, proxy_variable=self._variable) for refusal in refusals)
        not_correctable = any(one.confirmed for one in clock(evidence))
        off = None if refusals and not_correctable else clock_off(name, skew)
        if off is not None:
            self.complaints.append(off)
        elif skew is not None:
            self.notes.append(f"{name}: the endpoint's clock is {skew:+.1f} s from this machine's")

    def _certificate(self, name: str) -> x509.Certificate | None:
        return self._files.certificates.get(("credentials", name, "certificate_file"))

    def _bound_tokens(self, uses: Iterable["_Use"]) -> None:
        """Report tokens bound to a TLS client certificate (RFC 8705 3) that their upstream does not use."""
        for use in uses:
            minted = self._minted.get(use.side.token_key)
            if minted is None or not minted.certificate_thumbprint:
                continue
            shown = self._files.certificates.get(("upstreams", use.side.upstream, "client_certificate_file"))
            if shown is None or thumbprint(shown, "x5t#S256") != minted.certificate_thumbprint:
                complaint = Complaint(
                    key=(*use.key, "upstream"),
                    what="its tokens are bound to a TLS client certificate (cnf) that this upstream does not present",
                    fix="set client_certificate_file and client_key_file of the upstream as in the credential",
                )
                self.complaints.append(complaint)

    async def _call(self, uses: Iterable["_Use"]) -> None:
        upstreams = {one.name: one for one in self._snapshot.upstreams}
        testable = [use for use in uses if takes_test_call(use.route) and use.side.token_key in self._minted]
        if not testable:
            self.notes.append(f"no route with a token and a way to its upstream takes {METHOD} {PATH}")
        calls = (
            call(
                use.route,
                use.side,
                upstreams[use.side.upstream],
                self._minted[use.side.token_key].value,
                key=use.key,
                clock=self._clock,
            )
            for use in testable
        )
        for done in await asyncio.gather(*calls):
            self.complaints += [done.complaint] if done.complaint is not None else []
            self.notes += [done.note] if done.note else []

    def _unusable(self, key: Key, why: str) -> None:
        """Note that nothing was sent; report *why* only if the file checks have not."""
        if any(one.key[:2] == key for one in self._files.complaints):
            self.notes.append(f"{key[1]}: nothing was sent, its files can't be used")
        else:
            self.complaints.append(Complaint(key=key, what=why, fix="correct the files that it names"))


@dataclass(frozen=True, slots=True)
class _Use:
    """A side that requests of *route* may use, and the configuration key that defines it."""

    key: Key
    route: Route
    side: RouteSide


def _uses(routes: Iterable[Route]) -> list[_Use]:
    """Return each rule's own side, and the other side of a migrated one."""
    uses = []
    for position, route in enumerate(routes):
        uses.append(_Use(("routes", position), route, route.own))
        migration = route.migration
        if migration is not None:
            table = ("migrations", migration.policy.name)
            sides = ((Side.LEGACY, migration.legacy), (Side.MODERN, migration.modern))
            uses += [_Use((*table, str(name)), route, side) for name, side in sides if side != route.own]
    return uses


def _wanted(credential: str, uses: Iterable[_Use]) -> dict[TokenKey, Key]:
    """Return the tokens of *credential* that *uses* need, each with the first key that names it."""
    wanted: dict[TokenKey, Key] = {}
    for use in uses:
        if use.side.token_key.credential == credential:
            wanted.setdefault(use.side.token_key, use.key)
    return wanted
