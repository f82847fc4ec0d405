"""Sources of settings: flags, then the environment, then a secrets directory, then the file, then defaults.

pydantic-settings' own sources read os.environ themselves, ignore unknown names silently and stop at the first invalid
value, which they quote. These keep every value's origin, report all faults at once, and never quote a value.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.private_file import FileUnusable, OpenedFile, read_file
from proxy.secret import Secret
from proxy.settings.findings import Complaint, Finding, Key, Severity, nearest
from proxy.settings.schema import ValueKind, field_at, names_in, text_kind, value_of
from proxy.settings.stores import StoreUrl
from proxy.settings.tree import copied

PREFIX = "PAYPROXY_"
# How the origin of a value that comes from a variable begins; its name follows.
ENVIRONMENT = "environment variable "
DELIMITER = "__"
CONFIG_VARIABLE = "PAYPROXY_CONFIG"
FILE_NAME = "payproxy.toml"
SYSTEM_FILE = Path("/etc/payproxy/payproxy.toml")
SECRETS_DIRECTORY = Path("/run/secrets")
DEFAULT_DATA_DIRECTORY = "payproxy-data"

# A client secret has some 40 characters, a list of networks some thousand.
MAX_SECRET_FILE_BYTES = 65536


@dataclass(slots=True, kw_only=True)
class Layer:
    """The values of one source by key, each with its origin in words; the findings about names have no line."""

    values: dict[Key, tuple[Any, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def find_file(path: Path | None, *, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the configuration file: *path*, else $PAYPROXY_CONFIG, else the first default location that exists."""
    if path is not None:
        return path
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    if (cwd / FILE_NAME).exists():
        return Path(FILE_NAME)
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def flag_layer(flags: Mapping[str, str]) -> Layer:
    """Return the command line's settings; *flags* maps dotted keys, which only code writes, to texts."""
    layer = Layer()
    for dotted, text in flags.items():
        key: Key = tuple(dotted.split("."))
        _add(layer, key, text, kind=text_kind(key) or ValueKind.TEXT, where=f"flag for {dotted}")
    return layer


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return the settings of variables like PAYPROXY_SERVER__LISTEN.

    Only names with `__` are settings: Kubernetes injects PAYPROXY_PORT and the like for a service of that name.
    """
    layer = Layer()
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or DELIMITER not in variable:
            continue
        key: Key = tuple(variable.removeprefix(PREFIX).lower().split(DELIMITER))
        where = f"{ENVIRONMENT}{variable}"
        kind = text_kind(key)
        if kind is None:
            layer.findings.append(_unknown(key, "variable", lambda near: PREFIX + near.upper()).at(where))
        else:
            _add(layer, key, text, kind=kind, where=where)
    return layer


def secrets_layer(directories: Sequence[Path]) -> Layer:
    """Return the settings of files named like credentials__login__client_secret; later directories take precedence.

    The directory may hold other programs' files, so an unknown name is an error only if it is similar to one of ours.
    """
    layer = Layer()
    for directory in directories:
        try:
            paths = _files_in(directory)
        except PermissionError:
            what, fix = (
                "this user may not list the directory",
                "run as the user that it was made for, or change its mode",
            )
            complaint = Complaint(key=(), what=what, fix=fix, severity=Severity.WARNING)
            layer.findings.append(complaint.at(f"secrets directory {directory}"))
            continue
        for path in paths:
            key: Key = tuple(path.name.lower().split(DELIMITER))
            where = f"secrets file {path}"
            kind = text_kind(key)
            if kind is None:
                if nearest(str(key[0]), names_in(()), likeness=0.8) is not None:
                    layer.findings.append(_unknown(key, "file", lambda near: near).at(where))
                continue
            try:
                opened = read_file(path, most=MAX_SECRET_FILE_BYTES)
                text = secret_text(opened)
            except FileUnusable as error:
                layer.findings.append(_unusable(key, error).at(where))
                continue
            _add(layer, key, text, kind=kind, where=where)
            # What is no secret may have any mode.
            if opened.exposed is not None and (kind is ValueKind.SECRET or StoreUrl(text).has_password):
                layer.findings.append(_unusable(key, opened.exposed).at(where))
    return layer


def secret_text(opened: OpenedFile) -> str:
    """Return the text of a secrets file without one trailing newline; raise FileUnusable."""
    try:
        text = opened.data.decode()
    except UnicodeDecodeError:
        raise FileUnusable(opened.path, "is not UTF-8", "write the value alone into it, as UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _unusable(key: Key, error: FileUnusable) -> Complaint:
    return Complaint(key=key, what=error.what, fix=error.fix)


def merge(values: dict[str, Any], layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[Key, str]]:
    """Return *values* overridden by *layers* (weakest first), and the origin of each overridden key."""
    merged = copied(values)
    origins: dict[Key, str] = {}
    for layer in layers:
        for key, (value, where) in layer.values.items():
            table = merged
            for part in key[:-1]:
                inner = table.get(str(part))
                if not isinstance(inner, dict):
                    inner = table[str(part)] = {}
                table = inner
            table[str(key[-1])] = value
            for below in [one for one in origins if one[: len(key)] == key]:
                del origins[below]
            origins[key] = where
    return merged, origins


def data_directory(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the default data directory and its origin, if any; $STATE_DIRECTORY may list several (systemd)."""
    first = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (first, "$STATE_DIRECTORY") if first else (DEFAULT_DATA_DIRECTORY, "")


def _unknown(key: Key, noun: str, spell: Callable[[str], str]) -> Complaint:
    fix = f"correct the name of the {noun} or remove it"
    for depth, part in enumerate(key):
        names = names_in(key[:depth])
        if names and part not in names:
            near = nearest(str(part), names)
            if near is not None:
                meant = DELIMITER.join(str(one) for one in (*key[:depth], near, *key[depth + 1 :]))
                fix = f"did you mean {spell(meant)}?"
            break
    if key[0] == "routes":
        return Complaint(key=key, what=f"rules can't be set by a {noun}", fix="write [[routes]] in the file")
    if names_in(key) or field_at(key) is not None:
        return Complaint(key=key, what=f"the {noun} names a table, not a key in it", fix=f"add {DELIMITER} and a key")
    return Complaint(key=key, what=f"the {noun} sets an unknown key", fix=fix)


def _add(layer: Layer, key: Key, text: str, *, kind: ValueKind, where: str) -> None:
    try:
        value = value_of(text, kind)
    except ValueError:
        complaint = Complaint(key=key, what="the value is not JSON", fix='write lists like ["a", "b"] or a,b')
        layer.findings.append(complaint.at(where))
    else:
        layer.values.pop(key, None)  # behind what a weaker directory set below it
        layer.values[key] = (Secret(value) if kind is ValueKind.SECRET and value else value, where)


def _files_in(directory: Path) -> list[Path]:
    """Return the files that may be settings, none if there is no such directory; raise PermissionError."""
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - iterdir does not say whether it may
    except (FileNotFoundError, NotADirectoryError):
        return []
    named = (directory / name for name in names if DELIMITER in name and not name.startswith("."))
    # False for a link to what this user may not reach, where Path.is_dir raises: read_file says so, if it is a setting.
    return [path for path in named if not os.path.isdir(path)]  # noqa: PTH112
