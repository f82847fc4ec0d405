"""Checks across sections: references, rules that can be reached, callers that can be distinguished."""

from collections.abc import Iterable, Iterator

from proxy.settings.addresses import segments
from proxy.settings.credential import CredentialSection
from proxy.settings.extras import installation
from proxy.settings.findings import Complaint, Key, Severity, did_you_mean
from proxy.settings.model import CallerSection, RouteSection
from proxy.settings.placeholder import NOT_GIVEN, is_placeholder
from proxy.settings.signing_key import contradictions
from proxy.settings.stores import EXTRA, StoreUrl, extra_installed, trusts_the_network
from proxy.settings.valid import Valid

_NOUNS = {"upstreams": "upstream", "credentials": "credential", "callers": "caller"}


def references(valid: Valid) -> Iterator[Complaint]:
    """Check that every name of an upstream, credential or caller is the name of a table."""
    for number, route in valid.routes.items():
        key: Key = ("routes", number)
        yield from unknown_names(valid, "upstreams", [route.upstream], (*key, "upstream"))
        yield from unknown_names(valid, "credentials", [route.credential], (*key, "credential"))
        yield from unknown_names(valid, "callers", route.callers, (*key, "callers"))
    yield from unknown_names(valid, "credentials", valid.settings.admin.ready_requires, ("admin", "ready_requires"))


def unknown_names(valid: Valid, section: str, names: Iterable[str], key: Key) -> Iterator[Complaint]:
    """Report each of *names* that is not a table of *section*."""
    if (section,) in valid.faulty:
        return
    known = valid.names(section)
    for name in names:
        if name not in known and not is_placeholder(name):
            yield Complaint(key=key, what=f'no {_NOUNS[section]} is called "{name}"', fix=did_you_mean(name, known))


def rules(valid: Valid) -> Iterator[Complaint]:
    """Check that names are unique, a stripped prefix starts the path, and every rule can be reached."""
    seen: dict[str, int] = {}
    for number, route in valid.routes.items():
        if route.name in seen:
            yield Complaint(
                key=("routes", number, "name"), what="another rule has the same name", fix="give each rule its own name"
            )
        seen.setdefault(route.name, number)
        path, prefix = segments(route.path) or (), segments(route.strip_prefix) or ()
        if path[: len(prefix)] != prefix:
            yield Complaint(
                key=("routes", number, "strip_prefix"),
                what="the prefix is not a beginning of the rule's path, in whole segments",
                fix="strip what `path` begins with",
            )
    yield from _covered(valid)


def _covered(valid: Valid) -> Iterator[Complaint]:
    earlier = _Paths()
    for number, route in valid.routes.items():
        takers = [
            other for other in earlier.wider(route.path) if not other.methods or set(other.methods) & set(route.methods)
        ]
        taken_all = any(not other.methods for other in takers)
        taken = {method for other in takers for method in other.methods}
        if taken_all or (route.methods and taken >= set(route.methods)):
            names = " and ".join(f'"{other.name}"' for other in takers)
            yield Complaint(
                key=("routes", number, "path"),
                what=f"no request can reach this rule: {names} before it takes the same path and methods",
                fix="put the narrower rule first, or remove one",
            )
        earlier.add(number, route)


class _Paths:
    """Rules by the segments of their paths: of thousands of rules no two are compared by themselves."""

    def __init__(self) -> None:
        self.rules: dict[int, RouteSection] = {}
        self.below: dict[str, _Paths] = {}

    def add(self, number: int, route: RouteSection) -> None:
        """Add *route*, the rule *number*."""
        node = self
        for part in segments(route.path) or ():
            node = node.below.setdefault(part, _Paths())
        node.rules[number] = route

    def wider(self, path: str) -> list[RouteSection]:
        """Return, in their order, the rules whose path matches every path that *path* matches (`covers`)."""
        level, found = [self], dict(self.rules)
        for part in segments(path) or ():
            level = [node.below[one] for node in level for one in {"*", part} & node.below.keys()]
            for node in level:
                found |= node.rules
        return [found[number] for number in sorted(found)]


def covers(wide: str, narrow: str) -> bool:
    """Return whether *wide* matches every path that *narrow* matches."""
    wide_parts, narrow_parts = segments(wide) or (), segments(narrow) or ()
    if len(wide_parts) > len(narrow_parts):
        return False
    return all(one in {"*", other} for one, other in zip(wide_parts, narrow_parts, strict=False))


def callers(valid: Valid) -> Iterator[Complaint]:
    """Check that every caller has a proof, no two share one, and subjects are used with mutual TLS only."""
    named = valid.settings.callers
    for name, caller in named.items():
        if not (caller.networks or caller.certificate_subject or _keyed(caller)):
            yield Complaint(
                key=("callers", name),
                what="the caller has no proof, so that everyone would match it",
                fix="add networks, api_key_sha256 or certificate_subject",
            )
        if caller.certificate_subject and not valid.settings.server.client_ca_file:
            yield Complaint(
                key=("callers", name, "certificate_subject"),
                what="no caller can prove a subject without mutual TLS",
                fix="set certificate_file, key_file and client_ca_file in [server]",
            )
    # By proof, not by pair, so that thousands of callers do not take minutes.
    keys: dict[str, str] = {}
    proofs: dict[tuple[str, str], str] = {}
    for name, caller in named.items():
        hashes = {value.lower() for value in caller.api_key_sha256}
        proved = _proofs(caller)
        if same := {keys[value] for value in hashes if value in keys}:
            yield Complaint(
                key=("callers", name, "api_key_sha256"),
                what=f'caller "{min(same)}" has the same key',
                fix="make a key for each caller with `payproxy callers new NAME`",
            )
        elif same := {proofs[proof] for proof in proved if proof in proofs}:
            yield Complaint(
                key=("callers", name, "networks" if caller.networks else "certificate_subject"),
                what=f'nothing distinguishes this caller from caller "{min(same)}"',
                fix="give them different networks, or keys of their own",
            )
        for value in hashes:
            keys.setdefault(value, name)
        for proof in proved:
            proofs.setdefault(proof, name)


def _keyed(caller: CallerSection) -> bool:
    """Return whether the caller proves itself by a key, or by a token of the facade."""
    return bool(caller.api_key_sha256 or caller.facade_client_id)


def _proofs(caller: CallerSection) -> list[tuple[str, str]]:
    """Return the proofs of a caller without key; a request with one of them matches every caller that has it."""
    subject = caller.certificate_subject
    if _keyed(caller) or not (caller.networks or subject):
        return []
    return [(network, subject) for network in caller.networks or ("",)]


def credentials(valid: Valid) -> Iterator[Complaint]:
    """Check that each auth method has its settings, and that extra form fields are none that the proxy sets."""
    for name, credential in valid.settings.credentials.items():
        key: Key = ("credentials", name)
        yield from _missing(key, credential)
        for parameter in sorted(credential.reserved_parameters & set(credential.extra_parameters)):
            yield Complaint(
                key=(*key, "extra_parameters", parameter),
                what="the proxy sets this form field itself",
                fix="remove it from extra_parameters",
            )


def _missing(key: Key, credential: CredentialSection) -> Iterator[Complaint]:
    method = credential.auth_method
    if not credential.token_url:
        fix = "write the token URL that the bank gave you with the client id"
        yield Complaint(key=(*key, "token_url"), what="is missing", fix=fix)
    secret = credential.client_secret is not None or credential.client_secret_file
    if method in {"client_secret_basic", "client_secret_post"} and not secret:
        variable = f"PAYPROXY_CREDENTIALS__{str(key[1]).upper()}__CLIENT_SECRET"
        fix = f"name its file here, or set {variable}, or put it into the secrets directory"
        yield Complaint(key=(*key, "client_secret_file"), what=f"{method} {NOT_GIVEN}", fix=fix)
    if method == "private_key_jwt":
        yield from _signing_key(key, credential)
    if method == "private_key_jwt" and not (credential.certificate_file or credential.key_id):
        fix = "name the key's certificate (the kid is its thumbprint), or set key_id"
        yield Complaint(key=(*key, "certificate_file"), what="the assertion would have no kid", fix=fix)
    if method == "tls_client_auth" and not credential.client_certificate_file:
        what, fix = "tls_client_auth needs a client certificate", "set client_certificate_file and client_key_file"
        yield Complaint(key=(*key, "client_certificate_file"), what=what, fix=fix)


def _signing_key(key: Key, credential: CredentialSection) -> Iterator[Complaint]:
    named = credential.key_settings
    if not named:
        fix = "name the file of the RSA key that belongs to the certificate at the bank"
        yield Complaint(key=(*key, "private_key_file"), what="private_key_jwt needs a private key", fix=fix)
    yield from contradictions(key, credential)


def database(valid: Valid) -> Iterator[Complaint]:
    """Check that the request log has one usable database, on a server whose identity is verified."""
    log = valid.settings.request_log
    if log.database_file and log.database and ("request_log", "database") in valid.given:
        yield Complaint(
            key=("request_log", "database_file"),
            what="there is a database too",
            fix="name the database in one of the two",
        )
    if not log.database_file:
        yield from database_server(("request_log", "database"), log.database)


def database_server(key: Key, url: StoreUrl) -> Iterator[Complaint]:
    """Return what is wrong with the server in *url*, set at *key*; nothing for a local file."""
    if not url.postgres:
        return
    if not extra_installed():
        yield Complaint(
            key=key,
            what="PostgreSQL needs what is not installed",
            fix=installation(EXTRA),
        )
    if trusts_the_network(url):
        yield Complaint(
            key=key,
            what="the records go over the network to a server that does not have to prove who it is",
            fix="add ?sslmode=verify-full to the URL (and sslrootcert=FILE for a private CA)",
            severity=Severity.WARNING,
        )
