"""Chains as the keeper writes them, line by line, and what verifying them says."""

from pathlib import Path

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.records.audit_records import AuditRecords, Operation, SignedCheckpoints
from proxy.records.chain import GENESIS, chained
from proxy.records.checkpoint_key import CheckpointKey, checkpoint_key
from proxy.records.copies import Line
from proxy.records.mask import Mask
from proxy.records.pruned_range import PrunedRange, signed_bytes
from proxy.records.record import RecordBuilder, RecordContext
from proxy.records.verify import Expected, VerifyResult, verify
from tests.records.support import CONTEXT, an_exchange

MASK = Mask(b"0" * 32)


class Writer:
    """Writes one instance's chain with the key of *directory*, by hand."""

    def __init__(self, directory: Path, *, instance: str = CONTEXT.instance, chain: str = "") -> None:
        self.key: CheckpointKey = checkpoint_key(directory, entropy=SystemEntropy())
        self.lines: list[bytes] = []
        self.sequence = 0
        self.hash = GENESIS
        self.chain = chain
        self.called(instance)

    def called(self, instance: str, *, config_digest: str = "0" * 16) -> "Writer":
        """Let what follows be written by a host called *instance*, under another configuration."""
        context = RecordContext(environment="mock", instance=instance, config_digest=config_digest, chain=self.chain)
        self._records = AuditRecords(context, mask=MASK, clock=SystemClock(), entropy=SystemEntropy())
        self.checkpoints = SignedCheckpoints(self._records, key=self.key, version="0.1", clock=SystemClock())
        self._builder = RecordBuilder(context, MASK)
        return self

    def put(self, record: bytes) -> None:
        """Append *record*."""
        [line], self.hash = chained([record], sequence=self.sequence, previous_hash=self.hash)
        self.sequence += 1
        self.lines.append(line)

    def exchanges(self, number: int) -> "Writer":
        """Append exchanges."""
        for _ in range(number):
            self.put(self._builder.exchange(an_exchange())[:-1])
        return self

    def start(self) -> "Writer":
        """Append a start."""
        self.put(self.checkpoints.start())
        return self

    def checkpoint(self) -> "Writer":
        """Append a checkpoint."""
        self.put(self.checkpoints.checkpoint(self.sequence, self.hash))
        return self

    def operation(self, pruned: tuple[PrunedRange, ...], *, signed: bool = False) -> "Writer":
        """Append the record of a prune, *signed* as the command does it."""
        by = (self.key.public, self.key.sign_bytes(signed_bytes(pruned))) if signed else ("", "")
        operation = Operation(who="root", proof="operating system", what="logs prune", pruned=pruned, pruned_by=by)
        self.put(self._records.operation(operation)[:-1])
        return self

    def stop(self) -> "Writer":
        """Append a stop and the checkpoint over it."""
        self.put(self.checkpoints.stop())
        return self.checkpoint()


def whole(directory: Path) -> list[bytes]:
    """Return the lines of a chain that was left in order: 1 start, 2 to 11, 12 checkpoint, 13 to 17, 18 stop, 19."""
    return Writer(directory).start().exchanges(10).checkpoint().exchanges(5).stop().lines


def renamed(directory: Path) -> list[bytes]:
    """Return a chain whose host was killed and came back as pod-a, with records left over: 1 to 4, 5, 6 and 7, 8 to."""
    writer = Writer(directory, instance="pod-b").start().exchanges(3)
    writer.called("pod-a").start().called("pod-b").exchanges(2)
    return writer.called("pod-a").exchanges(2).checkpoint().exchanges(1).stop().lines


def verdict(lines: list[bytes], expected: Expected | None = None) -> VerifyResult:
    """Return what verifying *lines* says; places are their numbers, from 1."""
    numbered = (Line(line, str(number)) for number, line in enumerate(lines, start=1))
    return verify(numbered, expected or Expected())


def told(found: VerifyResult) -> list[tuple[str, str, int]]:
    """Return kind, place and record of each finding."""
    return [(finding.kind.value, finding.place.name, finding.sequence) for finding in found.findings]
