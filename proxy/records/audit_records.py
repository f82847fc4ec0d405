"""Records of the keeper and of commands: lifecycle, signed checkpoints, configurations, tokens, operations."""

from dataclasses import dataclass, replace
from typing import Any

from proxy.clock import Clock, timestamp
from proxy.entropy import Entropy, uuid7
from proxy.events import MintFailed, RequestsUnrecorded, TokenAdopted, TokenMinted
from proxy.records.checkpoint_key import Checkpoint, CheckpointKey
from proxy.records.mask import Mask
from proxy.records.pruned_range import PrunedRange
from proxy.records.record import LONGEST_TEXT, RecordContext, cut

# The name, among the index values of an inquiry's record, of the id of the request that it is about.
INQUIRY_ABOUT = "exchange"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """What *who* asked the bank about the request *exchange*, and what came.

    *asked* is method and target; *status* is that of the answer, 0 for none, then *cause* says why. *verdict* is found,
    not_found or unclear.
    """

    exchange: str
    who: str
    route: str
    side: str
    upstream: str
    upstream_url: str
    credential: str
    client_digest: str
    audience: str
    token_fingerprint: str
    asked: str
    status: int
    cause: str
    verdict: str


class AuditRecords:
    """Builds journal lines; strings from people, callers or the bank are masked."""

    def __init__(self, context: RecordContext, *, mask: Mask, clock: Clock, entropy: Entropy) -> None:
        self._context = context
        self._mask = mask
        self._clock = clock
        self._entropy = entropy

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

    def unrecorded(self, event: RequestsUnrecorded) -> bytes:
        """Return the record that a worker has begun requests that no record and no intent is of."""
        return self.lifecycle(
            "records_lost",
            count=event.count,
            cause="their worker ended before their records were written",
            worker=event.worker,
            since=timestamp(event.since),
            until=timestamp(event.until),
        )

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

    def adopted(self, event: TokenAdopted) -> bytes:
        """Return the record of a token that another replica had minted: that replica has the record of its mint."""
        return self._line(
            "token",
            {
                "event": "adopted",
                "credential": event.credential,
                "audience": event.audience,
                "mint": event.mint,
                "token_fingerprint": event.fingerprint,
                "minter": self._text(event.minter),
                "expires": timestamp(event.expires),
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

    def inquiry(self, inquiry: Inquiry) -> bytes:
        """Return the record of an inquiry; it is found by its exchange's id like by the value of a header."""
        return self._line(
            "inquiry",
            {
                "verdict": inquiry.verdict,
                "who": self._text(inquiry.who),
                "asked": self._text(inquiry.asked),
                "answer_status": inquiry.status,
                "cause": self._text(inquiry.cause),
                "route": inquiry.route,
                "upstream": inquiry.upstream,
                "upstream_url": inquiry.upstream_url,
                "credential": inquiry.credential,
                "client_digest": inquiry.client_digest,
                "audience": inquiry.audience,
                "side": inquiry.side,
                "token_fingerprint": inquiry.token_fingerprint,
                "index": {INQUIRY_ABOUT: inquiry.exchange},
            },
        )

    def _line(self, kind: str, facts: dict[str, Any], *, now: float | None = None) -> bytes:
        now = self._clock.now() if now is None else now
        return self._context.line(kind, facts, id=uuid7(self._entropy, now), now=now)

    def _text(self, text: str) -> str:
        return self._mask.text(text if len(text) <= LONGEST_TEXT else cut(text))


class SignedCheckpoints:
    """Builds the keeper's start, stop and checkpoint lines, without line feed; *key* signs the checkpoints."""

    def __init__(self, records: AuditRecords, *, key: CheckpointKey, version: str, clock: Clock) -> None:
        self._records = records
        self._key = key
        self._version = version
        self._clock = clock

    def start(self) -> bytes:
        """Return the record of a start, with the public half of the key."""
        return self._records.lifecycle("start", payproxy=self._version, public_key=self._key.public)[:-1]

    def checkpoint(self, sequence: int, hash_: str) -> bytes:
        """Return the signed claim that record *sequence* had *hash_* at this time."""
        now = self._clock.now()
        claim = Checkpoint(
            instance=self._records.instance,
            sequence=sequence,
            hash=hash_,
            time=timestamp(now),
            chain=self._records.chain,
        )
        signed = {
            "sequence": sequence,
            "hash": hash_,
            "public_key": self._key.public,
            "signature": self._key.sign(claim),
        }
        return self._records.lifecycle("checkpoint", now=now, checkpoint=signed)[:-1]

    def stop(self) -> bytes:
        """Return the record of a clean stop: everything started has been recorded."""
        return self._records.lifecycle("stop")[:-1]
