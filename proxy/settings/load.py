"""Loads Settings from all sources and reports all faults at once."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from proxy.private_file import open_regular
from proxy.settings import facade_rules, inquiry_rules, migration_rules, network_rules, route_rules, signature_rules
from proxy.settings.fields import relative_to
from proxy.settings.findings import Complaint, Key, Positions, Severity, in_order, positions_of
from proxy.settings.loaded import Loaded
from proxy.settings.model import Settings
from proxy.settings.placeholder import LEFT_IN, has_placeholder
from proxy.settings.salvage import salvaged
from proxy.settings.sources import (
    FILE_NAME,
    SECRETS_DIRECTORY,
    data_directory,
    environment_layer,
    find_file,
    flag_layer,
    merge,
    secrets_layer,
)
from proxy.settings.stores import StoreUrl
from proxy.settings.toml_text import MAX_FILE_BYTES, TomlUnusable, key_lines, parse_toml
from proxy.settings.tree import leaves
from proxy.settings.valid import Valid
from proxy.settings.validation import UNKNOWN_KEY, validate
from proxy.settings.values import masked

# A file with faults everywhere would take minutes to report in full.
_MOST_FINDINGS = 200
# The secrets that must not be in the file, and what to do about one that is.
_SECRETS = {"client_secret": "have the bank replace this one", "private_key_pin": "change this PIN"}
# The URLs that may have a password, but not in this file; what to do instead.
_PASSWORDS: Mapping[Key, str] = {
    (
        "request_log",
        "database",
    ): "name a file with the URL in database_file, or set PAYPROXY_REQUEST_LOG__DATABASE; and "
    "give the role another password if others have seen this one",
    ("state", "url"): "name a file with the URL in url_file, or set PAYPROXY_STATE__URL; and change the password if "
    "others have seen this one",
}
# Rules across sections, and the sections without which one is skipped: what it would find comes in the next run.
_RULES: tuple[tuple[Callable[[Valid], Iterable[Complaint]], frozenset[str]], ...] = (
    (route_rules.references, frozenset({"admin"})),
    (route_rules.rules, frozenset({"routes"})),
    (route_rules.callers, frozenset({"callers", "server"})),
    (route_rules.credentials, frozenset({"credentials"})),
    (route_rules.database, frozenset({"request_log"})),
    (migration_rules.migrations, frozenset({"migrations", "routes"})),
    (inquiry_rules.inquiries, frozenset({"migrations"})),
    (signature_rules.signatures, frozenset()),
    (facade_rules.facade, frozenset({"facade", "server"})),
    (facade_rules.state, frozenset({"state"})),
    (network_rules.listeners, frozenset({"server", "admin", "callers"})),
    (network_rules.hosts, frozenset()),
    (network_rules.pairs, frozenset()),
)


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
    not TOML yields what its valid lines say.
    """
    found = find_file(path, environ=environ, cwd=cwd)
    file = str(found or FILE_NAME)
    absolute = cwd / file
    layers = [
        secrets_layer(_secrets_directories(environ, secrets_directory)),
        environment_layer(environ),
        flag_layer(flags or {}),
    ]
    findings = [finding for layer in layers for finding in layer.findings]
    text, lines = "", {}
    try:
        text = _read(absolute, there=found is not None)
        values, lines = _parse(text), key_lines(text)
    except _FileUnusable as error:
        findings.append(Complaint(key=(), what=str(error), fix=error.fix).at(file, error.line))
        if not salvage:
            here = Positions(file=file)
            return Loaded(
                settings=None, findings=in_order(findings), sources={}, path=absolute, readable=None, positions=here
            )
        values = salvaged(text)
    merged, origins = merge(values, layers)
    directory, directory_source = data_directory(environ)
    if "data_directory" not in merged and directory_source:
        origins[("data_directory",)] = directory_source
    given = (key for key, _ in leaves(merged))
    here = positions_of(file, lines=lines, origins=origins, values=merged, given=given)
    with relative_to(absolute.parent):
        readable, complaints = _validated({"data_directory": directory, **merged})
    complaints = [*_secrets_in_file(values), *complaints]
    found_all = in_order([*findings, *(here.finding(complaint) for complaint in complaints[:_MOST_FINDINGS])])
    if len(complaints) > _MOST_FINDINGS:
        more = Complaint(
            key=(), what=f"there are {len(complaints) - _MOST_FINDINGS} more", fix="correct the others first"
        )
        found_all = (*found_all, here.finding(more))
    return Loaded(
        settings=None if any(one.severity is Severity.ERROR for one in found_all) else readable,
        findings=found_all,
        sources=_sources(readable, here),
        path=absolute,
        readable=readable,
        positions=here,
    )


def _validated(merged: Mapping[str, Any]) -> tuple[Settings, list[Complaint]]:
    """Return what can be read of *merged*, and all complaints; of a placeholder that it is one, if its key exists."""
    valid, readable, complaints = validate(merged)
    unknown = [one.key for one in complaints if one.what == UNKNOWN_KEY]
    placeholders = [
        Complaint(key=key, what=LEFT_IN, fix="write the value that belongs here")
        for key, value in leaves(merged)
        if has_placeholder(key, value) and not _is_below(key, unknown)
    ]
    held = [one.key for one in placeholders]
    others = [one for one in complaints if not _is_below(one.key, held)]
    return readable, [*others, *placeholders, *across_sections(valid)]


def _is_below(key: Key, others: Iterable[Key]) -> bool:
    return any(key[: len(other)] == other for other in others)


def across_sections(valid: Valid) -> list[Complaint]:
    """Return what the rules find whose sections have no fault of their own."""
    faulty = {str(key[0]) for key in valid.faulty if len(key) == 1}
    return [one for rule, reads in _RULES if not reads & faulty for one in rule(valid)]


def _secrets_directories(environ: Mapping[str, str], usual: Path) -> list[Path]:
    """Return the directories, weaker first: systemd's credentials of this service override the container's."""
    own = environ.get("CREDENTIALS_DIRECTORY")
    return [usual, Path(own)] if own else [usual]


class _FileUnusable(Exception):
    def __init__(self, what: str, fix: str, *, line: int = 0) -> None:
        super().__init__(what)
        self.fix = fix
        self.line = line


def _read(path: Path, *, there: bool) -> str:
    if not there:
        raise _FileUnusable(
            "there is no configuration file",
            f"write one with `payproxy init`, or name it with --config or $PAYPROXY_CONFIG; else ./{FILE_NAME} and "
            f"/etc/payproxy/{FILE_NAME} are looked for",
        )
    try:
        with open_regular(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise _FileUnusable(f"the file can't be read: {reason}", "correct its path, owner or mode") from None
    if len(data) > MAX_FILE_BYTES:
        raise _FileUnusable(f"the file has more than {MAX_FILE_BYTES} bytes", "name another file")
    try:
        # Windows editors write a byte order mark, which TOML does not allow.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _FileUnusable(f"line {line} is not UTF-8", "save the file as UTF-8") from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except TomlUnusable as error:
        raise _FileUnusable(f"not TOML: {error}", "correct the line, or the one before it", line=error.line) from None


def _secrets_in_file(values: Mapping[str, Any]) -> Iterable[Complaint]:
    for key, value in leaves(values):
        if key in _PASSWORDS and isinstance(value, str) and StoreUrl(value).has_password:
            yield Complaint(key=key, what="a password must not be in this file", fix=_PASSWORDS[key])
        if len(key) == 3 and key[0] == "credentials" and key[2] in _SECRETS:
            yield Complaint(
                key=key,
                what="a secret must not be in this file",
                fix=f"use {key[2]}_file, or PAYPROXY_CREDENTIALS__{str(key[1]).upper()}__{str(key[2]).upper()}, or a "
                f"file credentials__{key[1]}__{key[2]} in the secrets directory; and {_SECRETS[str(key[2])]} if others "
                "have seen it",
            )


def _sources(settings: Settings, here: Positions) -> dict[str, str]:
    sources: dict[str, str] = {}
    for key, _ in leaves(masked(settings)):
        where = here.source(key)
        if where is None and len(key) == 3 and key[0] == "credentials":
            where = settings.credentials[str(key[1])].source_of(str(key[2]))
        sources[".".join(str(part) for part in key)] = where or "default"
    return sources
