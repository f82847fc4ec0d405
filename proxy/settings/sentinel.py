"""The URL of a Redis watched by sentinels: redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE[/N]."""

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote

_SCHEMES = {"redis+sentinel": False, "rediss+sentinel": True}
_PORT = 26379
_PASSWORD_PARAMETER = "sentinel_password"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelUrl:
    """The sentinels (*addresses*, host and port) to ask for the master of *service*, and how to connect to it.

    *username* and *password* are for Redis, *sentinel_password* is for the sentinels; *tls* applies to all.
    """

    addresses: tuple[tuple[str, int], ...]
    service: str
    database: int
    tls: bool
    username: str
    password: str = field(repr=False)
    sentinel_password: str = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Parse the URL *text*; return None if it names no sentinels; raise ValueError if it is malformed.

        The error message contains no part of the URL.
        """
        scheme, found, rest = text.partition("://")
        if not found or scheme not in _SCHEMES:
            return None
        rest, _, query = rest.partition("?")
        authority, _, path = rest.partition("/")
        login, _, hosts = authority.rpartition("@")
        username, _, password = login.partition(":")
        service, _, database = path.partition("/")
        parameters = parse_qs(query, keep_blank_values=True)
        if parameters.keys() - {_PASSWORD_PARAMETER} or not service or "/" in database or "#" in rest:
            raise ValueError("more or less than sentinels, the name of a service and the number of a database")
        if database and not database.isdecimal():
            raise ValueError("no number of a database")
        return cls(
            addresses=tuple(_address(host) for host in hosts.split(",")),
            service=unquote(service),
            database=int(database or 0),
            tls=_SCHEMES[scheme],
            username=unquote(username),
            password=unquote(password),
            sentinel_password=parameters.get(_PASSWORD_PARAMETER, [""])[0],
        )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if text.rpartition(":")[2].isdecimal() else (text, "", str(_PORT))
    if not host or not 0 < int(port) < 65536:
        raise ValueError("no address of a sentinel")
    return host.removeprefix("[").removesuffix("]"), int(port)
