"""Offline checks of configurations, without network."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from proxy.checks.files import CheckedFiles, check_settings_files
from proxy.settings.findings import Complaint, Finding, Key, in_order
from proxy.settings.load import Loaded, load
from proxy.settings.placeholder import is_placeholder


@dataclass(frozen=True, slots=True, kw_only=True)
class _Environment:
    loaded: Loaded
    files: CheckedFiles


def check_files(paths: Sequence[Path] | None, *, environ: Mapping[str, str], cwd: Path, now: float) -> list[Finding]:
    """Return all findings of the configurations in *paths*, or of the one that `serve` would use.

    For several files also what two environments share but the bank requires to be unique. *now* is in epoch seconds.
    """
    asked: Sequence[Path | None] = paths or [None]
    loaded = [load(path, environ=environ, cwd=cwd) for path in asked]
    checked = [_Environment(loaded=one, files=_files(one, now=now)) for one in loaded]
    findings = [finding for one in checked for finding in _findings(one)]
    for first, second in combinations(checked, 2):
        findings += _shared(first, second)
    return list(in_order(findings))


def check_loaded(loaded: Loaded, *, now: float) -> list[Finding]:
    """Return the findings of *loaded* and of the files that it names; *now* is in epoch seconds."""
    return list(in_order(_findings(_Environment(loaded=loaded, files=_files(loaded, now=now)))))


def _files(loaded: Loaded, *, now: float) -> CheckedFiles:
    return check_settings_files(loaded.draft, now=now) if loaded.draft is not None else CheckedFiles()


def _findings(one: _Environment) -> Iterator[Finding]:
    yield from one.loaded.findings
    for complaint in one.files.complaints:
        yield one.loaded.places.finding(complaint)


def _shared(first: _Environment, second: _Environment) -> Iterator[Finding]:
    one, other = first.loaded, second.loaded
    if one.draft is None or other.draft is None or one.draft.environment == other.draft.environment:
        return
    for what, mine, theirs in (
        ("key", _keys(first), _keys(second)),
        ("certificate", _certificates(first), _certificates(second)),
        ("client id", _client_ids(first), _client_ids(second)),
    ):
        for identity, key in theirs.items():
            if identity in mine:
                there = one.places.finding(Complaint(key=mine[identity], what="", fix=""))
                complaint = Complaint(
                    key=key,
                    what=f"{one.draft.environment} uses the same {what} ({there.file}:{there.line}, {there.key})",
                    fix="use a separate one for each environment: the bank requires it",
                )
                yield other.places.finding(complaint)


def _keys(one: _Environment) -> dict[Hashable, Key]:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return {value.public_key().public_bytes(*form): key for key, value in one.files.keys.items()}


def _certificates(one: _Environment) -> dict[Hashable, Key]:
    return {_fingerprint(value): key for key, value in one.files.certificates.items()}


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _client_ids(one: _Environment) -> dict[Hashable, Key]:
    settings = one.loaded.draft
    if settings is None:
        return {}
    return {
        value.client_id: ("credentials", name, "client_id")
        for name, value in settings.credentials.items()
        if not is_placeholder(value.client_id)
    }
