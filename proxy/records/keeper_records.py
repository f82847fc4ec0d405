"""Records that the keeper itself builds: lifecycle, configurations, tokens, operations."""

from dataclasses import dataclass, replace
from typing import Any

from proxy.clock import Clock, timestamp
from proxy.entropy import Entropy, uuid7
from proxy.events import MintFailed, TokenMinted
from proxy.records.json_line import line
from proxy.records.mask import Mask
from proxy.records.pruned_range import PrunedRange
from proxy.records.record import LONGEST_TEXT, VERSION, RecordContext, cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation by a person: *who*, identified by *proof*, did *what* with which *values*, and the reason.

    *values* are the parameters by name; none of them may be a secret.
    """

    who: str
    proof: str
    what: str
    reason: str = ""
    values: tuple[tuple[str, str], ...] = ()
    pruned: tuple[PrunedRange, ...] = ()
    pruned_by: tuple[str, str] = ("", "")  # public key and signature, over `signed_bytes`


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintedToken:
    """A token that `payproxy token` minted and showed to *who*; *lifetime* in seconds."""

    who: str
    credential: str
    audience: str
    fingerprint: str
    lifetime: float


class KeeperRecords:
    """Builds journal lines; strings from people, callers or the bank are masked."""

    def __init__(self, context: RecordContext, *, mask: Mask, clock: Clock, entropy: Entropy) -> None:
        self._context = context
        self._mask = mask
        self._clock = clock
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"<KeeperRecords {self._context.instance} version {VERSION}>"

    @property
    def instance(self) -> str:
        """Return the instance's name."""
        return self._context.instance

    @property
    def chain(self) -> str:
        """Return the id of the chain."""
        return self._context.chain

    def lifecycle(self, event: str, *, now: float | None = None, **facts: Any) -> bytes:
        """Return the record of the lifecycle *event* (start, stop, checkpoint) at *now*, epoch seconds."""
        return self._line("lifecycle", {"event": event, **facts}, now=now)

    def configuration(self, values: dict[str, Any], *, digest: str) -> bytes:
        """Return the record of a configuration that takes effect now: its effective *values*, secrets masked.

        All later records name its *digest*.
        """
        self._context = replace(self._context, config_digest=digest)
        return self._line("configuration", {"configuration": values})

    def minted(self, event: TokenMinted) -> bytes:
        """Return the record of a token that a token endpoint issued; lifetime in seconds, duration in milliseconds."""
        return self._line(
            "token",
            {
                "event": "minted",
                "credential": event.credential,
                "audience": event.audience,
                "mint": event.mint,
                "token_fingerprint": event.fingerprint,
                "lifetime_s": round(event.lifetime),
                "expires": timestamp(event.expires),
                "duration_ms": round(event.seconds * 1000, 3),
            },
        )

    def mint_failed(self, event: MintFailed) -> bytes:
        """Return the record of a failed mint."""
        return self._line(
            "token",
            {
                "event": "refused" if event.code == "token_refused" else "unavailable",
                "credential": event.credential,
                "audience": event.audience,
                "code": event.code,
                "error": self._text(event.error),
                "cause": self._text(event.cause),
                "retry_in_s": round(event.retry_in, 3),
            },
        )

    def printed(self, token: PrintedToken) -> bytes:
        """Return the record of a token that was shown to a person."""
        return self._line(
            "token",
            {
                "event": "printed",
                "who": self._text(token.who),
                "credential": token.credential,
                "audience": token.audience,
                "token_fingerprint": token.fingerprint,
                "lifetime_s": round(token.lifetime),
            },
        )

    def operation(self, operation: Operation) -> bytes:
        """Return the record of an operation by a person; for a prune it lists what was deleted."""
        facts: dict[str, Any] = {
            "who": self._text(operation.who),
            "proof": operation.proof,
            "what": self._text(operation.what),
            "reason": self._text(operation.reason),
            "values": {self._text(name): self._text(value) for name, value in operation.values},
        }
        if operation.pruned:
            facts["pruned"] = [one.as_dict() for one in operation.pruned]
            public_key, signature = operation.pruned_by
            if signature:
                facts["pruned_by"] = {"public_key": public_key, "signature": signature}
        return self._line("operation", facts)

    def _line(self, kind: str, facts: dict[str, Any], *, now: float | None = None) -> bytes:
        now = self._clock.now() if now is None else now
        context = self._context
        return line(
            {
                "kind": kind,
                "id": uuid7(self._entropy, now),
                "version": VERSION,
                "time": timestamp(now),
                "environment": context.environment,
                "instance": context.instance,
                **({"chain": context.chain} if context.chain else {}),
                **facts,
                "config_digest": context.config_digest,
            }
        )

    def _text(self, text: str) -> str:
        return self._mask.text(text if len(text) <= LONGEST_TEXT else cut(text))
