"""Tells secrets by their names, and those that were written down wrongly; pure, and never quotes them."""

import base64
import binascii

from proxy.settings.placeholder import LEFT_IN, is_placeholder

_BYTE_ORDER_MARK = "\ufeff"
# Random bytes of this length are ASCII text by chance once in 300,000 times.
_FEWEST_BYTES = 12
# More names than those of secrets: what is masked in vain costs less than one that is shown.
_SECRET_NAMES = ("secret", "passw", "passphrase", "pwd", "pin", "credential", "token", "assertion", "key", "signature")
# As in subject_token_type (RFC 8693), client_assertion_type (RFC 7521) and key_id.
_DESCRIPTIONS = ("token_type", "assertion_type", "key_id", "key_type")


def names_a_secret(name: str) -> bool:
    """Return whether the value of a form field called *name* is probably a secret."""
    lower = name.lower().replace("-", "_")
    return any(word in lower for word in _SECRET_NAMES) and not lower.endswith(_DESCRIPTIONS)


def not_a_secret(text: str) -> tuple[str, str] | None:
    """Return a certain fault of *text* and its fix, None if it may be a secret."""
    if text.startswith(_BYTE_ORDER_MARK):
        return (
            "begins with a byte order mark, which would be sent as part of it",
            "save it as UTF-8 without BOM (PowerShell 7: Out-File -Encoding utf8NoBOM)",
        )
    if is_placeholder(text):
        return LEFT_IN, "write the secret that the bank gave you"
    if "\n" in text or "\r" in text:
        return "has more than one line", "write the secret alone into it"
    return None


def doubtful(text: str) -> tuple[str, str] | None:
    """Return a probable fault of *text* and its fix, None if there is none."""
    if text != text.strip().strip("\"'"):
        return "has white space or quotes around it", "write the secret alone into the file"
    if _is_encoded(text):
        return (
            "is base64 of another text, and is sent as it is",
            "write the decoded one (`base64 -d`); in a Kubernetes Secret `data:` wants one base64, `stringData:` none",
        )
    return None


def _is_encoded(text: str) -> bool:
    try:
        decoded = base64.b64decode(text, validate=True)
        return len(decoded) >= _FEWEST_BYTES and decoded.decode("ascii").strip().isprintable()
    except (binascii.Error, ValueError):
        return False
