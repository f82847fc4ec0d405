"""The request log's database: its location as a URL that is shown without password."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from proxy.secret import Secret
from proxy.settings.extras import installation
from proxy.settings.masked_url import MaskedUrl, UrlUnusable

SQLITE = "sqlite:"
POSTGRES = ("postgresql://", "postgres://")
EXTRA = "postgres"
# Those of libpq's modes that verify the server's identity.
VERIFIED_MODES = frozenset({"verify-ca", "verify-full"})


class DatabaseUrl(MaskedUrl):
    """A URL of a database, or "" for none."""

    __slots__ = ()
    FIX = 'write it like sqlite:requests.db or postgresql://USER@HOST/NAME, or "" for none'

    @property
    def postgres(self) -> bool:
        """Return whether it names a PostgreSQL server."""
        return self.startswith(POSTGRES)

    @classmethod
    def fault(cls, text: str) -> str:
        """Return what is wrong with *text*, "" if nothing is."""
        if not text.isprintable() or " " in text:
            return "the URL has a blank or a control character"
        if not text or text.startswith(SQLITE):
            name = Path(text.removeprefix(SQLITE)).name
            return "the URL names no file" if text and name in {"", "..", "."} else ""
        if not text.startswith(POSTGRES):
            return "the URL is not that of a supported database"
        try:
            split = urlsplit(text)
        except ValueError:
            return "the URL can't be understood"
        if split.fragment or not (split.netloc or split.query):
            return "the URL names no server"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDatabase:
    """The embedded database; *path* is absolute, its monthly files are beside it."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase:
    """A PostgreSQL server."""

    url: Secret


Database = SqliteDatabase | PostgresDatabase | None


def database_of(url: DatabaseUrl, url_file: str, *, data_directory: Path) -> Database:
    """Return the database in *url* or in the file *url_file*; None if it is turned off.

    Raises UrlUnusable.
    """
    if url_file:
        url = DatabaseUrl.read(Path(url_file))
    if not url:
        return None
    if url.postgres:
        if not extra_installed():
            raise UrlUnusable(f"PostgreSQL needs what is not installed; {installation(EXTRA)}")
        return PostgresDatabase(url=Secret(url.reveal()))
    return SqliteDatabase(path=data_directory / url.reveal().removeprefix(SQLITE))


def extra_installed() -> bool:
    """Return whether the driver for PostgreSQL is installed."""
    return find_spec("asyncpg") is not None


def trusts_the_network(url: DatabaseUrl) -> bool:
    """Return whether records would go to another machine whose identity is not verified."""
    split = urlsplit(url.reveal())
    parameters: Mapping[str, list[str]] = parse_qs(split.query)
    hosts = [part.rpartition("@")[2] for part in [*split.netloc.split(","), *parameters.get("host", [])]]
    named = [re.sub(r":[0-9]*$", "", host).strip("[]") for host in hosts]
    local = all(host in {"", "localhost", "127.0.0.1", "::1"} or host.startswith("/") for host in named)
    return not local and not VERIFIED_MODES.intersection(parameters.get("sslmode", []))


DatabaseText = Annotated[
    DatabaseUrl, PlainValidator(DatabaseUrl.of), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
