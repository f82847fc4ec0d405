"""Values that wait for the user: those of our own examples, and those of other people's templates."""

import re
from typing import Any

from proxy.settings.findings import Key

PLACEHOLDER = "..."

# <YOUR CLIENT ID>, {{ client_id }}, ${CLIENT_ID}: a template that nobody filled in.
_TEMPLATE = re.compile(r"<[A-Za-z][^<>]*>|\{\{.*\}\}|\$\{.*\}")
_WORDS = re.compile(r"(?:change|replace|fill)[-_ ]?(?:me|this|in)|your[-_ ].+|todo|tbd|x{3,}", re.IGNORECASE)


def is_placeholder(text: str) -> bool:
    """Return whether *text* is no value yet."""
    return PLACEHOLDER in text or _TEMPLATE.search(text) is not None or _WORDS.fullmatch(text.strip()) is not None


def has_placeholder(key: Key, value: Any) -> bool:
    """Return whether the setting *key* has a *value* that is none, or a list or table with one in it."""
    if isinstance(value, list):
        return any(has_placeholder(key, one) for one in value)
    if isinstance(value, dict):
        return any(has_placeholder((*key, name), one) for name, one in value.items())
    if not isinstance(value, str):
        return False
    # What an answer's body is compared with may well be XML.
    return PLACEHOLDER in value if key[-1:] == ("body",) else is_placeholder(value)
