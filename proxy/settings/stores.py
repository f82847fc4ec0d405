"""URLs of the request log's database and of the replicas' Redis: shown without password, read from private files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from proxy.private_file import FileUnusable, read_private_file
from proxy.secret import Secret
from proxy.settings.addresses import is_host, is_loopback
from proxy.settings.extras import installation
from proxy.settings.sentinel import SentinelUrl

SQLITE = "sqlite:"
POSTGRES = ("postgresql://", "postgres://")
EXTRA = "postgres"
# Those of libpq's modes that verify the server's identity.
VERIFIED_MODES = frozenset({"verify-ca", "verify-full"})
MAX_URL_FILE_BYTES = 8192

_PASSWORD = re.compile(r"(?<=://)([^:/?#]*):(.*)@", re.DOTALL)
_SECRET_PARAMETERS = re.compile(r"(?<=[?&])((?:ssl|sentinel_)?password)=[^&]*", re.IGNORECASE)


class UrlUnusable(ValueError):
    """A URL can't be used as configured; the message gives the reason and the fix, without the URL."""


class StoreUrl(str):
    """A URL, or "" for none, whose text has `***` for the password; only `reveal` returns the whole URL."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Self:
        """Keep the whole *text* beside the masked one."""
        url = super().__new__(cls, _SECRET_PARAMETERS.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text)))
        url._text = text
        return url

    def reveal(self) -> str:
        """Return the whole URL; call it only in the line that connects."""
        return self._text

    @property
    def has_password(self) -> bool:
        """Return whether the URL contains a password."""
        return str(self) != self._text

    @property
    def postgres(self) -> bool:
        """Return whether it names a PostgreSQL server."""
        return self.startswith(POSTGRES)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreUrl) and other._text == self._text

    def __ne__(self, other: object) -> bool:
        # str.__ne__ would compare the masked text.
        return not self == other

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlForm:
    """Which URLs are accepted: *fault* returns what is wrong with a text, "" if nothing is; *fix* shows a right one."""

    fault: Callable[[str], str]
    fix: str

    def read(self, path: Path) -> StoreUrl:
        """Return the URL in the file *path*; raise UrlUnusable, also if others than its owner may read it."""
        try:
            text = read_private_file(path, most=MAX_URL_FILE_BYTES).decode().strip()
        except FileUnusable as error:
            raise UrlUnusable(error.strerror) from None
        except UnicodeDecodeError:
            raise UrlUnusable("is not UTF-8; write the URL into it") from None
        if not text:
            raise UrlUnusable("is empty; write the URL into it")
        if fault := self.fault(text):
            raise UrlUnusable(f"{fault}; {self.fix}")
        return StoreUrl(text)


def _database_fault(text: str) -> str:
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
    return "the URL names no server" if split.fragment or not (split.netloc or split.query) else ""


def _redis_fault(text: str) -> str:
    if not text:
        return ""
    if not text.isprintable() or " " in text:
        return "the URL has a blank or a control character"
    try:
        watched = SentinelUrl.of(text) if "+sentinel://" in text else None
    except ValueError as error:
        return f"the URL has {error}"
    if watched is not None:
        hosts, tls, known, more = [host for host, _ in watched.addresses], watched.tls, True, False
    else:
        try:
            split = urlsplit(text)
            hosts, port, database = [split.hostname or ""], split.port, split.path.strip("/")
        except ValueError:
            return "the URL can't be understood"
        hosts = hosts if port != 0 else [""]
        tls, known = split.scheme == "rediss", split.scheme in {"redis", "rediss"}
        more = bool(split.query or split.fragment or (database and not database.isdecimal()))
    faults = (
        (not known, "the URL is not that of a Redis"),
        (not all(map(is_host, hosts)), "the URL names no server"),
        # Values are encrypted, but the server's password is not, and anyone who has it can delete the state.
        (
            not (tls or all(map(is_loopback, hosts))),
            "the password and the state's changes would go over the network in the clear",
        ),
        (more, "the URL has more than a server and the number of a database"),
    )
    return next((words for there, words in faults if there), "")


DATABASE = UrlForm(
    fault=_database_fault, fix='write it like sqlite:requests.db or postgresql://USER@HOST/NAME, or "" for none'
)
REDIS = UrlForm(
    fault=_redis_fault,
    fix="write it like rediss://HOST:6379/0 or rediss+sentinel://HOST:26379,HOST:26379/SERVICE/0; redis:// is for "
    "loopback only",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDatabase:
    """The embedded database; *path* is absolute, its monthly files are beside it."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDatabase:
    """A PostgreSQL server."""

    url: Secret


Database = SqliteDatabase | PostgresDatabase | None


def database_of(url: StoreUrl, url_file: str, *, data_directory: Path) -> Database:
    """Return the database in *url* or in the file *url_file*, None if it is turned off; raise UrlUnusable."""
    if url_file:
        url = DATABASE.read(Path(url_file))
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


def trusts_the_network(url: StoreUrl) -> bool:
    """Return whether records would go to another machine whose identity is not verified."""
    split = urlsplit(url.reveal())
    parameters = parse_qs(split.query)
    hosts = [part.rpartition("@")[2] for part in [*split.netloc.split(","), *parameters.get("host", [])]]
    named = [re.sub(r":[0-9]*$", "", host).strip("[]") for host in hosts]
    local = all(host in {"", "localhost", "127.0.0.1", "::1"} or host.startswith("/") for host in named)
    return not local and not VERIFIED_MODES.intersection(parameters.get("sslmode", []))
