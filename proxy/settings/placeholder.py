"""Detects values not yet filled in: placeholders of our own examples and of other people's templates."""

import re
from typing import Any

from proxy.settings.findings import Key

PLACEHOLDER = "..."
# What a finding says of one.
LEFT_IN = "a placeholder was left in"
# How a finding ends whose secret is given in no source.
NOT_GIVEN = "needs a client secret"

# <YOUR CLIENT ID>, {{ client_id }}, ${CLIENT_ID}: unfilled template values.
_TEMPLATE = re.compile(r"<[A-Za-z][^<>]*>|\{\{.*\}\}|\$\{.*\}")
_WORDS = re.compile(r"(?:change|replace|fill)[-_ ]?(?:me|this|in)|your[-_ ].+|todo|tbd|x{3,}", re.IGNORECASE)


def is_placeholder(text: str) -> bool:
    """Return whether *text* is a placeholder."""
    return PLACEHOLDER in text or _TEMPLATE.search(text) is not None or _WORDS.fullmatch(text.strip()) is not None


def has_placeholder(key: Key, value: Any) -> bool:
    """Return whether the *value* of the setting *key* is a placeholder, or a list or table that contains one."""
    if isinstance(value, list):
        return any(has_placeholder(key, one) for one in value)
    if isinstance(value, dict):
        return any(has_placeholder((*key, name), one) for name, one in value.items())
    if not isinstance(value, str):
        return False
    # The text to find in an answer's body may well be XML.
    return PLACEHOLDER in value if key[-1:] == ("body",) else is_placeholder(value)
