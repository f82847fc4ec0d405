"""The request log's database: where it is, said as a URL that never shows its password."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from proxy.secret import Secret
from proxy.settings.fields import unacceptable

SQLITE = "sqlite:"
POSTGRES = ("postgresql://", "postgres://")
EXTRA = "postgres"
MAX_URL_FILE_BYTES = 8192
# Of libpq's modes those that know the server for who it is.
VERIFIED_MODES = frozenset({"verify-ca", "verify-full"})

_PASSWORD = re.compile(r"(?<=://)([^:/?#]*):(.*)@", re.DOTALL)
_SECRET_PARAMETERS = re.compile(r"(?<=[?&])((?:ssl)?password)=[^&]*", re.IGNORECASE)


class DatabaseUnusable(ValueError):
    """The database can't be used as it is configured; the message says why and how to mend it, without the URL."""


class DatabaseUrl(str):
    """A URL of a database: as text it has `***` for its password, and only `reveal` gives all of it."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Self:
        """Keep *text* beside what may be shown of it."""
        url = super().__new__(cls, _SECRET_PARAMETERS.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text)))
        url._text = text
        return url

    def reveal(self) -> str:
        """Return the whole URL: call it in the line that connects, nowhere else."""
        return self._text

    @property
    def postgres(self) -> bool:
        """Return whether it names a PostgreSQL server."""
        return self.startswith(POSTGRES)

    @property
    def has_password(self) -> bool:
        """Return whether there is a password in it."""
        return str(self) != self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseUrl) and other._text == self._text

    def __ne__(self, other: object) -> bool:
        # str has one of its own, which would compare what is shown.
        return not self == other

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDatabase:
    """The embedded one; *path* is absolute, its months are files beside it."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase:
    """A PostgreSQL server."""

    url: Secret


Database = SqliteDatabase | PostgresDatabase | None


def database_url(value: Any) -> DatabaseUrl:
    """Return *value* as a database's URL; raises an error that names no part of it."""
    if isinstance(value, DatabaseUrl):
        return value
    if not isinstance(value, str):
        raise unacceptable("the value must be a string", _FIX)
    fault = _fault(value)
    if fault:
        raise unacceptable(fault, _FIX)
    return DatabaseUrl(value)


def database_of(url: DatabaseUrl, url_file: str, *, data_directory: Path) -> Database:
    """Return the database that *url*, or the one in *url_file*, names; None if it is turned off.

    Raises DatabaseUnusable.
    """
    if url_file:
        url = read_url(Path(url_file))
    if not url:
        return None
    if url.postgres:
        if not extra_installed():
            raise DatabaseUnusable(_NO_EXTRA)
        return PostgresDatabase(url=Secret(url.reveal()))
    return SqliteDatabase(path=data_directory / url.reveal().removeprefix(SQLITE))


def read_url(path: Path) -> DatabaseUrl:
    """Return the URL that the file *path* holds; raises DatabaseUnusable, also if others than its owner may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DatabaseUnusable("is not a regular file; name the file itself")
            if status.st_mode & 0o077:
                raise DatabaseUnusable(f"group or others may read it; run `chmod 600 {path}`")
            data = file.read(MAX_URL_FILE_BYTES + 1)
    except OSError as error:
        raise DatabaseUnusable(
            f"can't be read: {(error.strerror or 'error').lower()}; correct its path, owner or mode"
        ) from None
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise DatabaseUnusable("is not UTF-8; write the URL into it") from None
    fault = "is empty" if not text else _fault(text) if len(data) <= MAX_URL_FILE_BYTES else "is too long for a URL"
    if fault:
        raise DatabaseUnusable(f"{fault}; {_FIX}")
    return DatabaseUrl(text)


def extra_installed() -> bool:
    """Return whether what PostgreSQL needs is installed."""
    return find_spec("asyncpg") is not None


def trusts_the_network(url: DatabaseUrl) -> bool:
    """Return whether records would go to another machine that does not have to prove who it is."""
    split = urlsplit(url.reveal())
    parameters: Mapping[str, list[str]] = parse_qs(split.query)
    hosts = [part.rpartition("@")[2] for part in [*split.netloc.split(","), *parameters.get("host", [])]]
    named = [re.sub(r":[0-9]*$", "", host).strip("[]") for host in hosts]
    local = all(host in {"", "localhost", "127.0.0.1", "::1"} or host.startswith("/") for host in named)
    return not local and not VERIFIED_MODES.intersection(parameters.get("sslmode", []))


def _fault(text: str) -> str:
    if not text.isprintable() or " " in text:
        return "the URL has a blank or a control character"
    if not text or text.startswith(SQLITE):
        name = Path(text.removeprefix(SQLITE)).name
        return "the URL names no file" if text and name in {"", "..", "."} else ""
    if not text.startswith(POSTGRES):
        return "the URL is none of a database that can be used"
    try:
        split = urlsplit(text)
    except ValueError:
        return "the URL can't be understood"
    if split.fragment or not (split.netloc or split.query):
        return "the URL names no server"
    return ""


def _shown(url: DatabaseUrl) -> str:
    return str(url)


_FIX = 'write it like sqlite:requests.db or postgresql://USER@HOST/NAME, or "" for none'
_NO_EXTRA = f"PostgreSQL needs what is not installed; run `pip install 'payproxy[{EXTRA}]'`"

DatabaseText = Annotated[
    DatabaseUrl,
    PlainValidator(database_url),
    PlainSerializer(_shown),
    WithJsonSchema({"type": "string"}),
]
