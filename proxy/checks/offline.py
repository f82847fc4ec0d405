"""Offline checks of configurations, without network."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import hashes, serialization

from proxy.checks.container import container_complaints
from proxy.checks.files import CheckedFiles, check_settings_files
from proxy.checks.reading import Checked, Checks
from proxy.checks.shared_host import open_console
from proxy.settings.findings import Complaint, Finding, Key, in_order
from proxy.settings.load import load
from proxy.settings.loaded import Loaded
from proxy.settings.placeholder import is_placeholder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Environment:
    loaded: Loaded
    files: CheckedFiles

    @classmethod
    def of(cls, loaded: Loaded, *, now: float, container: bool, users: Sequence[str], devices: bool = True) -> Self:
        readable = loaded.readable
        files = check_settings_files(readable, now=now, devices=devices) if readable else CheckedFiles()
        if readable and container:
            files.complaints += container_complaints(readable)
        if readable:
            files.complaints += open_console(readable, users)
        return cls(loaded=loaded, files=files)

    def findings(self) -> list[Finding]:
        return [*self.loaded.findings, *map(self.loaded.positions.finding, self.files.complaints)]

    def identities(self) -> Iterator[tuple[str, Hashable, Key]]:
        """Yield what the bank wants to be unique for each environment, with its kind and key."""
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        for key, public in self.files.keys.items():
            yield "key", public.public_bytes(*form), key
        for key, certificate in self.files.certificates.items():
            yield "certificate", certificate.fingerprint(hashes.SHA256()), key
        for name, credential in self.loaded.readable.credentials.items() if self.loaded.readable else ():
            if not is_placeholder(credential.client_id):
                yield "client id", credential.client_id, ("credentials", name, "client_id")


def check_files(
    paths: Sequence[Path] | None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    now: float,
    container: bool = False,
    users: Sequence[str] = (),
) -> list[Finding]:
    """Return all findings of the configurations in *paths*, or of the one that `serve` would use.

    For several files also what two environments share but the bank requires to be unique. *now* is in epoch seconds,
    *container* says whether it is for use in a container, *users* are other people who can log in to the machine.
    """
    asked: Sequence[Path | None] = paths or [None]
    checked = [
        _Environment.of(load(path, environ=environ, cwd=cwd), now=now, container=container, users=users)
        for path in asked
    ]
    findings = [finding for one in checked for finding in one.findings()]
    for first, second in combinations(checked, 2):
        findings += _shared(first, second)
    return list(in_order(findings))


def check_loaded(
    loaded: Loaded, *, now: float, container: bool = False, users: Sequence[str] = (), devices: bool = True
) -> list[Finding]:
    """Return the findings of *loaded* and of the files that it names; the rest as in `check_files`.

    Without *devices* no PKCS#11 token is opened, which would try its PIN.
    """
    found = _Environment.of(loaded, now=now, container=container, users=users, devices=devices)
    return list(in_order(found.findings()))


def checked(loaded: Loaded, checks: Checks) -> Checked:
    """Return *loaded* with its findings, as *checks* says."""
    findings = check_loaded(
        loaded, now=checks.now, container=checks.container, users=checks.users, devices=checks.devices
    )
    return Checked(loaded=loaded, findings=tuple(findings))


def _shared(first: _Environment, second: _Environment) -> Iterator[Finding]:
    one, other = first.loaded, second.loaded
    if one.readable is None or other.readable is None or one.readable.environment == other.readable.environment:
        return
    mine, theirs = ({(kind, identity): key for kind, identity, key in each.identities()} for each in (first, second))
    for (kind, identity), key in theirs.items():
        if (kind, identity) in mine:
            there = one.positions.finding(Complaint(key=mine[kind, identity], what="", fix=""))
            what = f"{one.readable.environment} uses the same {kind} ({there.file}:{there.line}, {there.key})"
            fix = "use a separate one for each environment: the bank requires it"
            yield other.positions.finding(Complaint(key=key, what=what, fix=fix))
