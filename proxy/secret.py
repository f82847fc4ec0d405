"""A type for secrets that is never printed."""

from typing import NoReturn


class Secret:
    """A string that prints as `***`; only `reveal` returns it, and `encoded`, its UTF-8 for the data path."""

    __slots__ = ("_value", "encoded")

    def __init__(self, value: str) -> None:
        self._value = value
        self.encoded = value.encode()

    def reveal(self) -> str:
        """Return the secret: call this only in the line that sends or signs."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
