"""Records the keeper's own events: tokens, configurations, operations, start and stop."""

from pathlib import Path
from typing import Any

from proxy.clock import Clock
from proxy.entropy import Entropy
from proxy.events import Event, MintFailed, RequestsUnrecorded, TokenAdopted, TokenMinted
from proxy.records.audit_records import AuditRecords, Inquiry, Operation, SignedCheckpoints
from proxy.records.checkpoint_key import checkpoint_key
from proxy.records.journal import Journal
from proxy.records.mask import Mask
from proxy.records.masking_key import masking_key
from proxy.records.record import RecordContext

# Room for some thousand token records, which come every few minutes. Each segment is allocated before its first one.
_RESERVE_BYTES = 1024 * 1024


class AuditLog:
    """The keeper's own journal, named *journal_name*, which the shipper reads like a worker's; *mask* masks it.

    Raises OSError if a key of the data directory can't be read or created.
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
        self.mask = Mask(masking_key(data_directory, entropy=entropy))
        self._records = AuditRecords(context, mask=self.mask, clock=clock, entropy=entropy)
        self.checkpoints = SignedCheckpoints(
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
        """Open the journal; on failure records wait in memory until it can be written."""
        await self._journal.open()

    async def close(self) -> bool:
        """Write pending records; the caller tells the shipper that the journal ended. False if the disk hangs."""
        return await self._journal.close()

    def observe(self, event: Event) -> None:
        """Record *event* if it is a token event, or says that requests have no record; never blocks."""
        match event:
            case TokenMinted():
                self._journal.note(self._records.minted(event))
            case TokenAdopted():
                self._journal.note(self._records.adopted(event))
            case MintFailed():
                self._journal.note(self._records.mint_failed(event))
            case RequestsUnrecorded():
                self._journal.note(self._records.unrecorded(event))

    def configured(self, values: dict[str, Any], *, digest: str) -> None:
        """Record that *values* (effective configuration, secrets masked) are active; later records name *digest*.

        Nothing is recorded if only workers were replaced under the same configuration.
        """
        if digest == self._digest:
            return
        self._digest = digest
        self._journal.note(self._records.configuration(values, digest=digest))

    async def operated(self, operation: Operation) -> None:
        """Write *operation* to disk and return; the caller performs it only then.

        Raises LogUnavailable, and then the operation must not be performed: nothing happens without a record.
        """
        await self._journal.write(self._records.operation(operation))

    async def inquired(self, inquiry: Inquiry) -> bytes:
        """Write *inquiry* to disk and return its record, without line feed; raises LogUnavailable."""
        record = self._records.inquiry(inquiry)
        await self._journal.write(record)
        return record[:-1]
