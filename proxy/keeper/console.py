"""The console of this instance: what it reads and changes of the keeper, and the one-time links to it."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.console.answers import Refused
from proxy.console.app import Console
from proxy.console.in_force import ConfigurationInForce
from proxy.console.live_records import LiveRecords
from proxy.console.live_tail import rendered
from proxy.console.log_reader import LogReader
from proxy.console.sessions import LINK_SECONDS, Role, Visitor
from proxy.console.sign_in import SignIn
from proxy.console.sign_in_pages import PATH as SIGN_IN
from proxy.entropy import Entropy
from proxy.keeper.admin import Action, ActionRefused, Operated, Route
from proxy.keeper.admin_connections import hold_open
from proxy.keeper.inquiries import NOT_RECORDED, TOO_MANY, Inquiries, InquiryNotRecorded, TooManyInquiries
from proxy.keeper.inquiry import About, CantAsk, about
from proxy.keeper.log_sinks import archive_of
from proxy.keeper.migrations import Migrations
from proxy.keeper.recorded_changes import MigrationRefused
from proxy.records.audit_records import Operation
from proxy.records.query import for_seconds
from proxy.secret import Secret
from proxy.settings.addresses import TcpAddress, listen_address
from proxy.settings.model import AdminSection, Settings
from proxy.telemetry.history import History
from proxy.telemetry.status import MigrationStatus, Status

# A copy is in proxy/cli/admin.py: commands do not import the keeper.
LOGIN_LINK = "/api/console/login-link"
# A page of the request log opens within 300 ms; who searches for what is rare goes on from where it has ended.
PAGE_SECONDS = 0.15
# Connecting takes at most twice as long, and a page asks twice; the listener gives up after ANSWER_SECONDS, 10.
_STATEMENT_SECONDS = 2.0


class MigrationForms:
    """What the console's forms do with *migrations*, which record it with the weights before and after."""

    def __init__(self, migrations: Migrations) -> None:
        self._migrations = migrations

    async def set(self, name: str, weight: int, *, version: int, reason: str, by: Visitor) -> str:
        """Set the weight if *version* is current; return in words what was done. Raises Refused, LogUnavailable."""
        return await _done(
            self._migrations.set(name, weight, who=by.name, proof=by.proof, reason=reason, version=version)
        )

    async def rollback(self, name: str, to: int, *, version: int, reason: str, by: Visitor) -> str:
        """Go back to *to* if *version* is current; return in words what was done. Raises Refused, LogUnavailable."""
        return await _done(
            self._migrations.rollback(name, who=by.name, proof=by.proof, reason=reason, to=to, version=version)
        )


async def _done(change: Awaitable[MigrationStatus]) -> str:
    try:
        after = await change
    except MigrationRefused as refused:
        raise Refused(409, str(refused)) from None
    words = f"{after.name} has the weight {after.weight} now."
    return " ".join(filter(None, (words, after.unsettled, after.unsaved, after.unshared)))


class InquiryForms:
    """What the console's button does with *inquiries*; *operated* records who asked, before."""

    def __init__(self, inquiries: Inquiries, *, operated: Operated) -> None:
        self._inquiries = inquiries
        self._operated = operated

    def objection(self, record: Mapping[str, Any]) -> str:
        """Return why the bank can't be asked about the exchange *record*, "" if it can."""
        try:
            return self._inquiries.objection(_about(record))
        except Refused as refused:
            return refused.text

    async def ask(self, record: Mapping[str, Any], *, by: Visitor) -> dict[str, Any]:
        """Ask and return the record of what came; raises Refused, LogUnavailable."""
        wanted = _about(record)
        values = (("exchange", wanted.id), ("route", wanted.route))
        operation = Operation(who=by.name, proof=by.proof, what="console: ask the bank", values=values)
        try:
            return await self._inquiries.ask(wanted, who=by.name, first=lambda: self._operated(operation))
        except CantAsk as why:
            raise Refused(409, f"The bank can't be asked about this request: {why}.") from None
        except TooManyInquiries:
            raise Refused(429, f"{TOO_MANY} Try again later.") from None
        except InquiryNotRecorded as error:
            raise Refused(error.status, NOT_RECORDED) from None


def _about(record: Mapping[str, Any]) -> About:
    try:
        return about(record)
    except KeyError:
        raise Refused(409, "its record is of an older version") from None


class InstanceConsole:
    """The console of an instance that has one, by *settings*; `add` is called in the shipper's thread.

    `actions` are those of the Unix socket that belong to it.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        *,
        status: Callable[[], Status],
        with_recent: Callable[[Status], Status],
        history: History,
        migrations: Migrations,
        in_force: ConfigurationInForce,
        inquiries: Inquiries,
        operated: Operated,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        now = settings()
        self._live = LiveRecords(run=entropy.token_bytes(4).hex(), render=rendered)
        self._sign_in = SignIn(
            now.admin.operators, secure=bool(now.admin.certificate_file), record=operated, clock=clock, entropy=entropy
        )
        log = LogReader(
            lambda: archive_of(settings(), seconds=_STATEMENT_SECONDS),
            data_directory=Path(now.data_directory),
            enough=lambda: for_seconds(PAGE_SECONDS, clock.monotonic),
        )
        self._console = Console(
            status=status,
            with_recent=with_recent,
            sign_in=self._sign_in,
            log=log,
            history=history,
            migrations=MigrationForms(migrations),
            in_force=in_force,
            inquiries=InquiryForms(inquiries, operated=operated),
            live=self._live,
            hold_open=hold_open,
            clock=clock,
        )
        self.actions = {LOGIN_LINK: login_link_action(self._sign_in, now.admin, operated=operated)}

    def routes(self) -> Iterator[Route]:
        """Yield method, path and handler."""
        return self._console.routes()

    def is_open(self) -> bool:
        """Return whether nobody has to sign in."""
        return not self._sign_in.needed

    async def follow(self, operators: Mapping[str, Secret]) -> None:
        """Let *operators* sign in from now on; sessions and links of those that are removed or changed end."""
        await self._sign_in.follow(operators)

    def add(self, records: Sequence[bytes]) -> None:
        """Take new *records*, lines of the log, for the live tail."""
        self._live.add(records)

    def end_streams(self, why: str) -> None:
        """End the live tails: *why* is reload or stop."""
        self._live.end(why)

    def __repr__(self) -> str:
        return f"<InstanceConsole {self._live!r}>"


def login_link_action(sign_in: SignIn, admin: AdminSection, *, operated: Operated) -> Action:
    """Return the action that makes a link for the user at the other end of the socket."""

    async def perform(values: dict[str, Any], by: Operation) -> dict[str, Any]:
        url = console_url(admin)
        if not sign_in.possible:
            so = "is closed" if sign_in.needed else "is read-only and needs no link"
            words = f"Nobody is in [admin] operators, so the console at {url}/console/ {so}."
            raise ActionRefused(409, "bad_request", words)
        try:
            role = Role(values.get("role", Role.OPERATOR))
        except ValueError:
            raise ActionRefused(400, "bad_request", "role is viewer or operator.") from None
        await operated(by)
        link = sign_in.links.make(by.who, role)
        return {"url": f"{url}{SIGN_IN}?link={link}", "role": role.value, "seconds": LINK_SECONDS}

    return Action(what='make a link that signs in once: {"role": "operator" or "viewer"}', perform=perform)


def console_url(admin: AdminSection) -> str:
    """Return the console's origin as a browser on this machine, or one that knows [admin] hosts, reaches it."""
    address = listen_address(admin.listen) if admin.listen else None
    if not isinstance(address, TcpAddress):
        raise ActionRefused(409, "bad_request", "The console needs a host and port in [admin] listen.")
    host = admin.hosts[0] if admin.hosts else address.host
    if host != "localhost" and _is_unspecified(host):
        host = "localhost"
    scheme = "https" if admin.certificate_file else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"


def _is_unspecified(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
