"""Build starts, stops and signed checkpoints as records of the stream."""

from proxy.clock import Clock, timestamp
from proxy.records.checkpoint_key import Checkpoint, CheckpointKey
from proxy.records.keeper_records import KeeperRecords


class SignedCheckpoints:
    """Builds the keeper's start, stop and checkpoint lines, without line feed; *key* signs the checkpoints."""

    def __init__(self, records: KeeperRecords, *, key: CheckpointKey, version: str, clock: Clock) -> None:
        self._records = records
        self._key = key
        self._version = version
        self._clock = clock

    def __repr__(self) -> str:
        return f"<SignedCheckpoints {self._key!r}>"

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
