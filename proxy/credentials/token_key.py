"""The identity of a token, without secrets, so that workers may hold it."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TokenKey:
    """All fields that identify a token: without one of them a client's token could go to another client's API.

    The fingerprint of key or secret is not part of it but kept in the keeper's slot: a rotation changes it while a
    worker runs. *credential* is the table's name, for display, and not part of the identity. *digest* is 32 hex digits
    that identify this key on the link. *client_digest* is 16 hex digits that identify the client at the bank and what
    its tokens are for: another *auth_method* of the same client id does not change it.
    """

    token_url: str
    client_id: str
    auth_method: str
    audience_parameter: str
    audience: str
    scope: str
    extra_parameters: tuple[tuple[str, str], ...] = ()
    credential: str = field(compare=False)
    digest: str = field(init=False, compare=False)
    client_digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        client = (self.token_url, self.client_id)
        token = (
            self.audience_parameter,
            self.audience,
            self.scope,
            *(part for pair in self.extra_parameters for part in pair),
        )
        object.__setattr__(self, "digest", _digest(*client, self.auth_method, *token)[:32])
        object.__setattr__(self, "client_digest", _digest(*client, *token)[:16])

    def __hash__(self) -> int:
        """Return the hash of the digest, which str caches: this key is looked up for every request."""
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<TokenKey {self.credential} {self.audience or '-'} {self.scope or '-'}>"


def _digest(*parts: str) -> str:
    text = "".join(f"{len(part)}:{part}" for part in parts)  # length prefixes keep parts unambiguous
    return hashlib.sha256(text.encode()).hexdigest()
