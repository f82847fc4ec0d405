"""Loads Settings from all sources and reports all faults at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.private_file import open_regular
from proxy.settings import facade_rules, migration_rules, network_rules, route_rules
from proxy.settings.database import DatabaseUrl
from proxy.settings.draft import draft_of
from proxy.settings.findings import Complaint, Finding, Key, Severity, in_order
from proxy.settings.masked_url import MaskedUrl
from proxy.settings.model import Settings
from proxy.settings.placeholder import has_placeholder
from proxy.settings.places import Places, places
from proxy.settings.salvage import salvaged
from proxy.settings.sources import (
    FILE_NAME,
    SECRETS_DIRECTORY,
    Layer,
    data_directory,
    environment_layer,
    find_file,
    flag_layer,
    leaves,
    merge,
    secrets_layer,
    with_absolute_paths,
)
from proxy.settings.toml_bounds import MAX_FILE_BYTES, TomlUnusable, parse_toml
from proxy.settings.toml_positions import key_lines
from proxy.settings.values import masked

# A file with faults everywhere would take minutes to report in full.
_MOST_FINDINGS = 200
_CHECKS = (
    route_rules.references,
    route_rules.rules,
    route_rules.callers,
    route_rules.credentials,
    route_rules.database,
    migration_rules.migrations,
    facade_rules.facade,
    facade_rules.state,
    network_rules.listeners,
    network_rules.hosts,
    network_rules.pairs,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The result of loading.

    *settings* is None if there are errors. *draft* is the valid part in any case (None if not even the file could be
    read): for further checks, never to run with. *sources* maps each dotted key (rules numbered from 0: routes.0.path)
    to the origin of its value. *path* is absolute.
    """

    settings: Settings | None
    findings: tuple[Finding, ...]
    sources: Mapping[str, str]
    path: Path
    draft: Settings | None
    places: Places

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that stop `serve`."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    flags: Mapping[str, str] | None = None,
    secrets_directory: Path = SECRETS_DIRECTORY,
    salvage: bool = False,
) -> Loaded:
    """Load the configuration from *path* (else from `find_file`) and the other sources.

    *flags* maps dotted keys to texts from the command line. User errors raise nothing. With *salvage* a file that is
    not TOML yields a draft of its valid lines.
    """
    found = find_file(path, environ=environ, cwd=cwd)
    file = str(found or FILE_NAME)
    absolute = cwd / file
    text, complaint = _read(absolute) if found is not None else ("", _no_file())
    values, syntax = _parse(text, file=file)
    layers = [
        secrets_layer(_secrets_directories(environ, secrets_directory)),
        environment_layer(environ),
        flag_layer(flags or {}),
    ]
    findings = [_placed(where, one) for layer in layers for where, one in layer.complaints]
    if complaint is not None or syntax is not None:
        here = Places(file=file)
        findings += [here.finding(complaint)] if complaint is not None else []
        findings += [syntax] if syntax is not None else []
        if salvage:
            read = salvaged(text)
            return _understood(read, layers, findings, environ=environ, file=file, path=absolute, lines={})
        return Loaded(settings=None, findings=in_order(findings), sources={}, path=absolute, draft=None, places=here)
    return _understood(values, layers, findings, environ=environ, file=file, path=absolute, lines=key_lines(text))


def _understood(
    values: dict[str, Any],
    layers: Sequence[Layer],
    findings: list[Finding],
    *,
    environ: Mapping[str, str],
    file: str,
    path: Path,
    lines: Mapping[Key, int],
) -> Loaded:
    merged, origins = merge(values, layers)
    directory, directory_source = data_directory(environ)
    if "data_directory" not in merged and directory_source:
        origins[("data_directory",)] = directory_source
    here = places(file, lines=lines, origins=origins, values=merged)
    merged = with_absolute_paths({"data_directory": directory, **merged}, path.parent)
    draft, complaints = draft_of(merged)
    placeholders = [
        Complaint(key=key, what="a placeholder was left in", fix="write the value that belongs here")
        for key, value in leaves(merged)
        if has_placeholder(key, value)
    ]
    held = [one.key for one in placeholders]
    complaints = [one for one in complaints if not any(one.key[: len(key)] == key for key in held)]
    complaints += placeholders
    complaints += _secrets_in_file(values)
    complaints += [one for check in _CHECKS for one in check(draft)]
    found = in_order([*findings, *(here.finding(complaint) for complaint in complaints[:_MOST_FINDINGS])])
    if len(complaints) > _MOST_FINDINGS:
        more = Complaint(
            key=(), what=f"there are {len(complaints) - _MOST_FINDINGS} more", fix="correct the others first"
        )
        found = (*found, here.finding(more))
    failed = any(finding.severity is Severity.ERROR for finding in found)
    return Loaded(
        settings=None if failed else draft.settings,
        findings=found,
        sources=_sources(draft.settings, here),
        path=path,
        draft=draft.settings,
        places=here,
    )


def _secrets_directories(environ: Mapping[str, str], usual: Path) -> list[Path]:
    """Return the directories, weaker first: systemd's credentials of this service override the container's."""
    own = environ.get("CREDENTIALS_DIRECTORY")
    return [usual, Path(own)] if own else [usual]


def _no_file() -> Complaint:
    return Complaint(
        key=(),
        what="there is no configuration file",
        fix=f"write one with `payproxy init`, or name it with --config or $PAYPROXY_CONFIG; else ./{FILE_NAME} and "
        f"/etc/payproxy/{FILE_NAME} are looked for",
    )


def _read(path: Path) -> tuple[str, Complaint | None]:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        return "", Complaint(key=(), what=f"the file can't be read: {reason}", fix="correct its path, owner or mode")
    if len(data) > MAX_FILE_BYTES:
        return "", Complaint(key=(), what=f"the file has more than {MAX_FILE_BYTES} bytes", fix="name another file")
    try:
        # Windows editors write a byte order mark, which TOML does not allow.
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", Complaint(key=(), what=f"line {line} is not UTF-8", fix="save the file as UTF-8")


def _parse(text: str, *, file: str) -> tuple[dict[str, Any], Finding | None]:
    try:
        return parse_toml(text), None
    except TomlUnusable as error:
        what, line = str(error), error.line
    return {}, Finding(
        severity=Severity.ERROR,
        file=file,
        line=line,
        key="",
        what=f"not TOML: {what}",
        fix="correct the line, or the one before it",
    )


def _placed(where: str, complaint: Complaint) -> Finding:
    return Finding(
        severity=complaint.severity,
        file=where,
        line=0,
        key=".".join(str(part) for part in complaint.key),
        what=complaint.what,
        fix=complaint.fix,
    )


def _secrets_in_file(values: Mapping[str, Any]) -> Iterable[Complaint]:
    for key, value in leaves(values):
        if key == ("request_log", "database") and isinstance(value, str) and DatabaseUrl(value).has_password:
            yield Complaint(
                key=key,
                what="a password must not be in this file",
                fix="name a file with the URL in database_file, or set PAYPROXY_REQUEST_LOG__DATABASE; and give the "
                "role another password if others have seen this one",
            )
        if key == ("state", "url") and isinstance(value, str) and MaskedUrl(value).has_password:
            yield Complaint(
                key=key,
                what="a password must not be in this file",
                fix="name a file with the URL in url_file, or set PAYPROXY_STATE__URL; and change the password if "
                "others have seen this one",
            )
        if len(key) == 3 and key[0] == "credentials" and key[2] == "client_secret":
            yield Complaint(
                key=key,
                what="a secret must not be in this file",
                fix=f"use client_secret_file, or PAYPROXY_CREDENTIALS__{str(key[1]).upper()}__CLIENT_SECRET, or a file "
                f"credentials__{key[1]}__client_secret in the secrets directory; and have the bank replace this one if "
                "others have seen it",
            )


def _sources(settings: Settings, here: Places) -> dict[str, str]:
    sources: dict[str, str] = {}
    for key, _ in leaves(masked(settings)):
        where = here.source(key)
        if where is None and len(key) == 3 and key[0] == "credentials":
            where = settings.credentials[str(key[1])].source_of(str(key[2]))
        sources[".".join(str(part) for part in key)] = where or "default"
    return sources
