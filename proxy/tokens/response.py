"""Parses a token endpoint's answer (RFC 6749 5.1, 5.2); pure, every byte is untrusted."""

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from proxy.errors import TokenRefused, TokenUnavailable
from proxy.secret import Secret
from proxy.text import printable as text_printable

MAX_BODY_BYTES = 65536

# The bank's tokens have about 1,500 characters; no server accepts a header line of more than 16 KiB.
MAX_TOKEN_CHARACTERS = 16384

# A token may claim to be valid forever; ours are renewed at least once a day.
MAX_LIFETIME_SECONDS = 86400.0

# A lifetime below one second counts as none: it would cost a mint per request.
MIN_LIFETIME_SECONDS = 1.0

MIN_RETRY_AFTER_SECONDS = 1
MAX_RETRY_AFTER_SECONDS = 900

_MAX_WORDS = 200

# RFC 6750 2.1: the characters allowed after "Bearer" in a header.
_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_NUMERIC = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LOOKS_LIKE_JWT = re.compile(r"eyJ[A-Za-z0-9_.-]{8,}")

# Card numbers (they begin with 2 to 6, times in milliseconds don't) and IBANs: log and status show the cause
# without a record's mask.
_NUMBER = re.compile(r"(?<![\w.])[2-6](?:[ -]?\d){12,18}(?!\d)|\b[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}\b")

# The start of a card number or IBAN, which can't be recognised once its end is cut off.
_BEGUN_NUMBER = re.compile(r"(?:[A-Za-z]{2}[\W_]?\d\d(?:[\W_]{0,3}\w){0,30}|\d(?:[\W_]{0,3}\d)*)[\W_]{0,3}$")


class MintRefused(TokenRefused):
    """The endpoint refused; *error* is its error code (RFC 6749 5.2), "" if it gave none."""

    def __init__(self, detail: str, *, error: str, cause: str) -> None:
        super().__init__(detail, cause=cause)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A token as received; *lifetime* in seconds from the start of the call.

    *audience_claim* and *scope* are displayed, never compared (the bank's audience differs from the one requested).
    *certificate_thumbprint* is the token's `cnf` x5t#S256 (RFC 8705 3.1), "" for a plain bearer token.
    """

    value: Secret
    lifetime: float
    audience_claim: str = ""
    scope: str = ""
    certificate_thumbprint: str = ""


def parse_token_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credential: str,
    default_lifetime: float,
    now: float,
    hide: Iterable[str] = (),
) -> Minted:
    """Return the token of an answer whose *body* was read up to one byte beyond MAX_BODY_BYTES.

    *now* is epoch seconds of the endpoint's clock, for a JWT's exp. *hide* are secrets that an endpoint may echo.
    Raises MintRefused for 400, 401 and 403, else TokenUnavailable. Neither quotes the body, except error_description in
    the cause: at most 200 printable characters.
    """
    answer = json_object(headers, body)
    if status == 200:
        if answer is None:
            raise _malformed(credential, _why_no_object(headers, body))
        return _minted(answer, credential=credential, default_lifetime=default_lifetime, now=now)
    error, words = _error_words(answer or {}, hide)
    cause = f"{status} {words}" if words else f"{status}, {_why_no_object(headers, body)}"
    if status in {400, 401, 403}:
        detail = (
            f"The token endpoint of credential {credential} refused the credential ({error or f'status {status}'})."
        )
        raise MintRefused(detail, error=error, cause=cause)
    if status == 429:
        wait = retry_after(_header(headers, "retry-after"), now=now)
        detail = f"The token endpoint of credential {credential} asks for fewer requests (status 429)."
        raise TokenUnavailable(detail, cause=cause, retry_after=wait)
    if 300 <= status < 400:
        cause = f"{status}: redirects are not followed, a secret must not go to another host"
    detail = f"The token endpoint of credential {credential} gave no token (status {status})."
    raise TokenUnavailable(detail, cause=cause)


def json_object(headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
    """Return *body* as a JSON object; None if it is none or its headers declare something else."""
    if len(body) > MAX_BODY_BYTES or _encoded(headers) or not _plain_json(headers):
        return None
    return _parsed(body)


def retry_after(value: str, *, now: float) -> int | None:
    """Return Retry-After (RFC 9110 10.2.3, seconds or date) in seconds, 1 to 900; None if missing or invalid."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        seconds = float(value[:12])
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return math.ceil(min(max(seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS))


def printable(text: str, limit: int = _MAX_WORDS) -> str:
    """Return the first *limit* characters of *text*, with unprintable ones replaced by blanks.

    A number cut by the limit is removed: records mask only a complete card number or IBAN.
    """
    kept = text if len(text) <= limit else _BEGUN_NUMBER.sub("", text[:limit])
    return text_printable(kept, other=" ")


def _minted(answer: dict[str, Any], *, credential: str, default_lifetime: float, now: float) -> Minted:
    kind = answer.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _malformed(credential, "token_type is missing or not Bearer")
    value = answer.get("access_token")
    if not isinstance(value, str) or not value:
        raise _malformed(credential, "access_token is missing, empty or no string")
    if len(value) > MAX_TOKEN_CHARACTERS or not _B64TOKEN.fullmatch(value):
        raise _malformed(credential, "access_token is too long or holds characters that RFC 6750 2.1 does not allow")
    claims = _claims(value)
    lifetime = _seconds(answer.get("expires_in"))
    if lifetime is None and (end := _seconds(claims.get("exp"))) is not None:
        lifetime = _seconds(end - now)
    audience = claims.get("aud", "")
    scope = answer.get("scope") or claims.get("scope", "")
    confirmation = claims.get("cnf")
    bound = confirmation.get("x5t#S256", "") if isinstance(confirmation, dict) else ""
    return Minted(
        value=Secret(value),
        lifetime=min(lifetime if lifetime is not None else default_lifetime, MAX_LIFETIME_SECONDS),
        audience_claim=_shown(audience),
        scope=_shown(scope),
        certificate_thumbprint=_shown(bound),
    )


def _seconds(value: object) -> float | None:
    """Return a positive number or numeric string as seconds; None for anything else, True, NaN and less than one."""
    if isinstance(value, str) and _NUMERIC.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Limited before the conversion to float: JSON allows integers of 400 digits. The limit is beyond any epoch second.
    return float(min(value, 1 << 53)) if value >= MIN_LIFETIME_SECONDS else None


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a JWT, unverified, since the bank verifies them; {} if *token* is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        return {}
    return _parsed(payload) or {}


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        # ADFS sometimes writes a byte order mark. 60,000 nested brackets raise RecursionError.
        answer = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _error_words(answer: dict[str, Any], hide: Iterable[str]) -> tuple[str, str]:
    """Return the error code, safe for callers, and code with description, for the operator."""
    error, description = answer.get("error"), answer.get("error_description")
    code = error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else ""
    text = description if isinstance(description, str) else ""
    hidden = [secret for secret in hide if secret]
    for secret in hidden:
        text = text.replace(secret, "***")
    if any(secret in code for secret in hidden) or _NUMBER.search(code):
        code = ""
    text = printable(_NUMBER.sub("***", _LOOKS_LIKE_JWT.sub("***", text)))
    return code, f"{code}: {text}" if code and text else code or text


def _plain_json(headers: Mapping[str, str]) -> bool:
    kind = _content_type(headers)
    return kind in {"", "application/json"} or (kind.startswith("application/") and kind.endswith("+json"))


def _encoded(headers: Mapping[str, str]) -> bool:
    return _header(headers, "content-encoding").strip().lower() not in {"", "identity"}


def _why_no_object(headers: Mapping[str, str], body: bytes) -> str:
    if len(body) > MAX_BODY_BYTES:
        return f"more than {MAX_BODY_BYTES} bytes"
    if not body:
        return "an empty body"
    if _encoded(headers):
        return "a compressed body, which was not asked for"
    if not _plain_json(headers):
        return f"{printable(_content_type(headers), 60)} instead of JSON; did a proxy in between answer?"
    return "no JSON object" if _parsed(body) is None else "no error code"


def _content_type(headers: Mapping[str, str]) -> str:
    return _header(headers, "content-type").partition(";")[0].strip().lower()


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")


def _shown(value: object) -> str:
    items = value if isinstance(value, list) else [value]
    return printable(" ".join(item for item in items if isinstance(item, str)))


def _malformed(credential: str, cause: str) -> TokenUnavailable:
    detail = f"The token endpoint of credential {credential} gave an answer that can't be used."
    return TokenUnavailable(detail, cause=f"200, but {cause}")
