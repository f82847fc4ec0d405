"""Writes down what the keeper itself has to tell: tokens, configurations, operations, start and stop."""

from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.events import Event, MintFailed, TokenMinted
from proxy.records.checkpoint_key import checkpoint_key
from proxy.records.checkpoints import Checkpoints
from proxy.records.journal import Journal
from proxy.records.keeper_records import KeeperRecords, Operation
from proxy.records.mask import Mask
from proxy.records.masking_key import masking_key
from proxy.records.record import RecordContext
from proxy.records.signed_checkpoints import SignedCheckpoints

# Some thousand records of tokens: they come every few minutes, and each segment is there whole before the first.
_RESERVE_BYTES = 1024 * 1024


class AuditLog:
    """Keeps a journal of the keeper's own, which the shipper reads like a worker's; *journal_name* is its name there.

    Raises OSError if a key of the data directory can't be read or made.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        context: RecordContext,
        version: str,
        spool_bytes: int,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._digest = ""
        self.journal_name = f"keeper-{entropy.token_bytes(6).hex()}"
        mask = Mask(masking_key(data_directory, entropy=entropy))
        self._records = KeeperRecords(context, mask=mask, clock=clock, entropy=entropy)
        self.landmarks: Checkpoints = SignedCheckpoints(
            self._records, key=checkpoint_key(data_directory, entropy=entropy), version=version, clock=clock
        )
        self._journal = Journal(
            data_directory,
            worker=self.journal_name,
            context=context,
            durable=True,
            clock=clock,
            entropy=entropy,
            spool_bytes=spool_bytes,
            reserve=_RESERVE_BYTES,
        )

    def __repr__(self) -> str:
        return f"<AuditLog {self._journal!r}>"

    async def open(self) -> None:
        """Begin the journal; if that fails, what is told waits in memory until it can be written."""
        await self._journal.open()

    async def close(self) -> bool:
        """Write all that was told; the shipper is to hear that this journal has ended. False if the disk hangs."""
        return await self._journal.close()

    def observe(self, event: Event) -> None:
        """Write down *event* if it is one that records tell of; never waits."""
        match event:
            case TokenMinted():
                self._journal.note(self._records.minted(event))
            case MintFailed():
                self._journal.note(self._records.mint_failed(event))

    def configured(self, values: dict[str, Any], *, digest: str) -> None:
        """Write down that the effective *values*, secrets masked, are in force now; later records name *digest*.

        Not again where workers were replaced under the same configuration.
        """
        if digest == self._digest:
            return
        self._digest = digest
        self._journal.note(self._records.configuration(values, digest=digest))

    async def operated(self, operation: Operation) -> None:
        """Return once it is on disk that somebody wants *operation*: it may be done then.

        Raises LogUnavailable, and then it may not: what is not on record does not happen.
        """
        await self._journal.write(self._records.operation(operation))
