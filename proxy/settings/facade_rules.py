"""Checks of the facade and the shared state against the rest of the configuration."""

from collections.abc import Iterator

from proxy.settings.addresses import TcpAddress, listen_address, segments
from proxy.settings.findings import Complaint, Severity
from proxy.settings.model import ServerSection
from proxy.settings.route_rules import covers
from proxy.settings.valid import Valid

_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - not addresses of this machine
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def facade(valid: Valid) -> Iterator[Complaint]:
    """Check that the facade's paths are its own, and that each client is one caller with a proof."""
    paths = valid.settings.facade.paths
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        yield Complaint(key=("facade", "paths"), what=f"{path} is listed twice", fix="remove one")
    for path in dict.fromkeys(paths):
        # A rule for "/" matches only what nothing else matches, and the facade's paths come first.
        takers = (route for route in valid.routes.values() if segments(route.path) and covers(route.path, path))
        taker = next(takers, None)
        if taker is not None and segments(path):
            yield Complaint(
                key=("facade", "paths"),
                what=f'rule "{taker.name}" takes {path} too',
                fix="choose a path that no rule takes, or make the rule narrower",
            )
    yield from _clients(valid)
    yield from _own_url(valid)


def own_hosts(server: ServerSection) -> tuple[str, ...]:
    """Return this proxy's names and addresses: server.hosts, else the listener's address if it is a specific one."""
    if server.hosts:
        return tuple(host.lower().strip("[]") for host in server.hosts)
    address = listen_address(server.listen)
    if not isinstance(address, TcpAddress) or address.host in _EVERY_ADDRESS:
        return ()
    return _LOOPBACK if address.loopback else (address.host.lower(),)


def _own_url(valid: Valid) -> Iterator[Complaint]:
    settings = valid.settings
    if not settings.facade.paths or settings.facade.accepted_assertion_audiences:
        return
    if any(one.assertion_certificate_files for one in settings.callers.values()) and not own_hosts(settings.server):
        yield Complaint(
            key=("server", "hosts"),
            what="the facade has no URL of its own, so it is not known which audiences of assertions are its own",
            fix="list the names by which callers reach this proxy, or whole URLs in "
            "facade.accepted_assertion_audiences",
        )


def _clients(valid: Valid) -> Iterator[Complaint]:
    known: dict[str, str] = {}
    for name, caller in valid.settings.callers.items():
        key = ("callers", name, "facade_client_id")
        client = caller.facade_client_id
        if not client:
            if caller.assertion_certificate_files:
                yield Complaint(
                    key=("callers", name, "assertion_certificate_files"),
                    what="they verify assertions of a client that has no id",
                    fix="set facade_client_id",
                )
            continue
        if client in known:
            yield Complaint(
                key=key, what=f'caller "{known[client]}" has the same client id', fix="give each caller its own"
            )
        known.setdefault(client, name)
        if not valid.settings.facade.paths:
            yield Complaint(
                key=key,
                what="there is no facade where it could get a token",
                fix="add [facade] with paths, or remove it",
            )
        if not (caller.assertion_certificate_files or caller.api_key_sha256):
            yield Complaint(
                key=key,
                what="the client has no way to authenticate",
                fix="add assertion_certificate_files, or api_key_sha256 for a key that it sends as client_secret",
            )


def state(valid: Valid) -> Iterator[Complaint]:
    """Check that only one Redis is named, and that encryption keys are set."""
    section = valid.settings.state
    if section.url and section.url_file:
        yield Complaint(key=("state", "url_file"), what="there is a url too", fix="name the Redis in one of the two")
    if section.shared and not section.encryption_key_files:
        yield Complaint(
            key=("state", "encryption_key_files"),
            what="what is stored in a Redis must be encrypted",
            fix="make a key with `openssl rand -hex 32` in a file of mode 0600, the same for all replicas, and name it",
        )
    if not section.shared:
        for name, credential in valid.settings.credentials.items():
            if credential.share_tokens and ("credentials", name, "share_tokens") in valid.given:
                yield Complaint(
                    severity=Severity.WARNING,
                    key=("credentials", name, "share_tokens"),
                    what="[state] names no Redis, so each replica mints for itself",
                    fix="name one in state.url_file, or remove this line",
                )
