"""The whole identity of a token, as a plain value that workers may hold."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TokenKey:
    """What a token belongs to: leave one part out and one client's token goes to another's API.

    The fingerprint of key or secret is not here but in the keeper's slot: rotation changes it under a living worker.
    *credential* is the table's name, for people; it is no part of the identity. *digest* is 32 hex digits that name
    this key on the link.
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

    def __post_init__(self) -> None:
        parts = [
            self.token_url,
            self.client_id,
            self.auth_method,
            self.audience_parameter,
            self.audience,
            self.scope,
            *(part for pair in self.extra_parameters for part in pair),
        ]
        text = "".join(f"{len(part)}:{part}" for part in parts)  # lengths keep parts from slipping over
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest()[:32])

    def __hash__(self) -> int:
        """Return the digest's hash, which a string computes once: this key is looked up for every request."""
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<TokenKey {self.credential} {self.audience or '-'} {self.scope or '-'}>"
