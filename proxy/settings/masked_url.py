"""URLs that may hold a password: what is shown of them has none, and a file with one is private."""

import re
from pathlib import Path
from typing import Any, ClassVar, Self

from proxy.private_file import FileUnusable, read_private_file
from proxy.settings.fields import unacceptable

MAX_URL_FILE_BYTES = 8192

_PASSWORD = re.compile(r"(?<=://)([^:/?#]*):(.*)@", re.DOTALL)
_SECRET_PARAMETERS = re.compile(r"(?<=[?&])((?:ssl|sentinel_)?password)=[^&]*", re.IGNORECASE)


class UrlUnusable(ValueError):
    """A URL can't be used as it is configured; the message says why and how to mend it, without the URL."""


class MaskedUrl(str):
    """A URL: as text it has `***` for its password, and only `reveal` gives all of it.

    A kind of them says how one is written, in *FIX*, and what is wrong with a text that is none, by `fault`.
    """

    __slots__ = ("_text",)
    FIX: ClassVar[str] = ""
    _text: str

    def __new__(cls, text: str) -> Self:
        """Keep *text* beside what may be shown of it."""
        url = super().__new__(cls, _SECRET_PARAMETERS.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text)))
        url._text = text
        return url

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return what a setting's *value* names; raises an error of validation that shows no part of it."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise unacceptable("the value must be a string", cls.FIX)
        fault = cls.fault(value)
        if fault:
            raise unacceptable(fault, cls.FIX)
        return cls(value)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the URL that the file *path* holds; raises UrlUnusable, also if others than its owner may read it."""
        text = read_url_file(path)
        fault = cls.fault(text)
        if fault:
            raise UrlUnusable(f"{fault}; {cls.FIX}")
        return cls(text)

    @classmethod
    def fault(cls, text: str) -> str:  # noqa: ARG003 - for the kinds
        """Return what is wrong with *text*, "" if nothing is."""
        return ""

    def reveal(self) -> str:
        """Return the whole URL: call it in the line that connects, nowhere else."""
        return self._text

    @property
    def has_password(self) -> bool:
        """Return whether there is a password in it."""
        return str(self) != self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MaskedUrl) and other._text == self._text

    def __ne__(self, other: object) -> bool:
        # str has one of its own, which would compare what is shown.
        return not self == other

    def __hash__(self) -> int:
        return hash(self._text)


def read_url_file(path: Path) -> str:
    """Return the text that the file *path* holds; raises UrlUnusable, also if others than its owner may read it."""
    try:
        data = read_private_file(path, most=MAX_URL_FILE_BYTES)
    except FileUnusable as error:
        raise UrlUnusable(error.strerror) from None
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise UrlUnusable("is not UTF-8; write the URL into it") from None
    if not text:
        raise UrlUnusable("is empty; write the URL into it")
    return text
