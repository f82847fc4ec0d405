"""Client assertions (RFC 7523 3) of callers that request tokens themselves: signature, audience and expiry."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from proxy.callers.compact import decoded, json_object
from proxy.callers.rsa_verify import RsaKey

# Clocks of old machines are wrong, and the bank's sample sets nbf to the current second.
LEEWAY_SECONDS = 60.0
# The bank's own instructions sign for 30 s, 300 s, 8 h and, on Client Testing, 6 months, and reuse the assertion; a
# lower limit would need a change of code in the client. A longer lifetime makes it a password.
LONGEST_SECONDS = 186 * 86400.0
_LATEST = 1e15
_SEGMENTS = 3
_LONGEST_QUOTE = 120


class ClientUnproven(ValueError):
    """The client is not authenticated; the text is for the operator, and quotes names at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientAssertion:
    """A parsed assertion; *claims* and *client_id* are not trusted until `verify` returns."""

    client_id: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @classmethod
    def read(cls, text: str) -> "ClientAssertion":
        """Parse the assertion in *text*; raises ClientUnproven.

        The algorithm is RS256 only, whatever the header says (RFC 8725 3.1). A key id is ignored, since the client's
        belongs to the certificate that the bank has of it; so are keys in the header.
        """
        try:
            segments = text.encode("ascii").split(b".")
            if len(segments) != _SEGMENTS:
                raise ValueError("it has not three segments")
            header, claims = (json_object(decoded(segment)) for segment in segments[:2])
            signature = decoded(segments[2])
        except UnicodeEncodeError:
            raise ClientUnproven("the assertion can't be read: it is not ASCII") from None
        except ValueError as error:
            raise ClientUnproven(f"the assertion can't be read: {error}") from None
        if header.get("alg") != "RS256":
            raise ClientUnproven("the assertion's alg is not RS256")
        if "crit" in header:
            raise ClientUnproven("the assertion's header has crit, of which nothing is understood (RFC 7515 4.1.11)")
        issuer, subject = claims.get("iss"), claims.get("sub")
        if not isinstance(issuer, str) or not issuer or issuer != subject:
            raise ClientUnproven("iss and sub must both be the client id (RFC 7523 3)")
        return cls(client_id=issuer, claims=claims, signed=b".".join(segments[:2]), signature=signature)

    @property
    def jti(self) -> str:
        """Return the assertion's jti, "" without one; not trusted until `verify` has returned."""
        value = self.claims.get("jti")
        return value if isinstance(value, str) else ""

    def verify(self, keys: Iterable[RsaKey], *, is_ours: Callable[[str], bool], now: float) -> float:
        """Return the expiry, if one of *keys* signed it for an audience that *is_ours*, and it is valid *now*.

        Times are epoch seconds. Raises ClientUnproven.
        """
        if not any(key.verifies(self.signed, self.signature) for key in keys):
            raise ClientUnproven("no certificate in assertion_certificate_files has signed the assertion")
        audiences = self.claims.get("aud")
        if isinstance(audiences, str):
            audiences = [audiences]
        if not isinstance(audiences, list) or not all(isinstance(one, str) for one in audiences):
            raise ClientUnproven("aud must be a string or a list of strings (RFC 7519 4.1.3)")
        if not any(map(is_ours, audiences)):
            raise ClientUnproven(
                "aud is neither a URL of ours (server.hosts, else server.listen) nor in "
                f"facade.accepted_assertion_audiences: {printable(', '.join(audiences)) or 'empty'}"
            )
        expires = self._time("exp")
        if expires is None:
            raise ClientUnproven("exp is missing (RFC 7523 3)")
        if now - LEEWAY_SECONDS >= expires:
            raise ClientUnproven(f"it has expired {now - expires:.0f} s ago by the proxy's clock")
        if expires - now > LONGEST_SECONDS + LEEWAY_SECONDS:
            raise ClientUnproven(f"exp lies {(expires - now) / 86400:.0f} days ahead, which is too far")
        for name in ("nbf", "iat"):
            begins = self._time(name)
            if begins is not None and begins > now + LEEWAY_SECONDS:
                raise ClientUnproven(f"{name} lies {begins - now:.0f} s ahead by the proxy's clock")
        return expires

    def _time(self, name: str) -> float | None:
        """Return the NumericDate (RFC 7519 2) claim *name*, None if absent; true and 1e999 are invalid."""
        if name not in self.claims:
            return None
        value = self.claims[name]
        # isinstance() accepts True as a number; the bound excludes infinity and what float() can't hold.
        if type(value) not in (int, float) or not abs(value) <= _LATEST:
            raise ClientUnproven(f"{name} is not a number of seconds")
        return float(value)

    def __repr__(self) -> str:
        return f"<ClientAssertion of {printable(self.client_id)}>"


def printable(text: str) -> str:
    """Return a caller-supplied *text* in a form safe for a record: printable ASCII, limited in length."""
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in text[:_LONGEST_QUOTE])
    return shown if len(text) <= _LONGEST_QUOTE else shown + "..."
