"""The [state] section: the Redis for the state shared by replicas; its URL is shown without password."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from proxy.secret import Secret
from proxy.settings.addresses import is_host, is_loopback
from proxy.settings.fields import PathText, PathTexts
from proxy.settings.masked_url import MaskedUrl
from proxy.settings.section import Section
from proxy.settings.sentinel import SentinelUrl

_SCHEMES = frozenset({"redis", "rediss"})


class StateUrl(MaskedUrl):
    """A URL of a Redis, or "" for none."""

    __slots__ = ()
    FIX = (
        "write it like rediss://HOST:6379/0 or rediss+sentinel://HOST:26379,HOST:26379/SERVICE/0; redis:// is for "
        "loopback only"
    )

    @classmethod
    def fault(cls, text: str) -> str:
        """Return what is wrong with *text*, "" if nothing is."""
        if not text:
            return ""
        if not text.isprintable() or " " in text:
            return "the URL has a blank or a control character"
        if "+sentinel://" in text:
            return _sentinel_fault(text)
        try:
            split = urlsplit(text)
            host, port, database = split.hostname or "", split.port, split.path.strip("/")
        except ValueError:
            return "the URL can't be understood"
        # Values are encrypted, but the server's password is not, and anyone who has it can delete the state.
        clear = split.scheme == "redis" and not is_loopback(host)
        more = bool(split.query or split.fragment or (database and not database.isdecimal()))
        faults = (
            (split.scheme not in _SCHEMES, "the URL is not that of a Redis"),
            (not is_host(host) or port == 0, "the URL names no server"),
            (clear, "the password and the state's changes would go over the network in the clear"),
            (more, "the URL has more than a server and the number of a database"),
        )
        return next((words for there, words in faults if there), "")


def _sentinel_fault(text: str) -> str:
    try:
        url = SentinelUrl.of(text)
    except ValueError as error:
        return f"the URL has {error}"
    if url is None:
        return "the URL is not that of a Redis"
    if not all(is_host(host) for host, _ in url.addresses):
        return "the URL names no server"
    if not url.tls and not all(is_loopback(host) for host, _ in url.addresses):
        return "the password and the state's changes would go over the network in the clear"
    return ""


StateText = Annotated[StateUrl, PlainValidator(StateUrl.of), PlainSerializer(str), WithJsonSchema({"type": "string"})]


class StateSection(Section):
    """[state]: what replicas share; without a URL it is kept in data_directory, for this machine's workers."""

    url: StateText = Field(
        "",
        validate_default=True,
        description="rediss://HOST:PORT/N or rediss+sentinel://HOST:PORT,HOST:PORT/SERVICE/N, shared by replicas; "
        'redis:// and redis+sentinel:// on loopback only; "" = this machine only',
    )
    url_file: PathText = Field("", description="file with the URL, mode 0600: for one with a password")
    ca_file: PathText = Field("", description="private CA of the Redis; verification can't be turned off")
    encryption_key_files: PathTexts = Field(
        (), description="keys, mode 0600, new first; required with a Redis: every value there is encrypted"
    )

    @property
    def shared(self) -> bool:
        """Return whether the state is kept in a Redis."""
        return bool(self.url or self.url_file)

    def redis(self) -> Secret | None:
        """Return the whole URL of the Redis, None without one; raise UrlUnusable."""
        url = StateUrl.read(Path(self.url_file)) if self.url_file else self.url
        return Secret(url.reveal()) if url else None
