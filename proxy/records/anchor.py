"""Anchors: checkpoints that were kept outside this host, for comparison with the log."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from proxy.records.chain_id import chain_in
from proxy.records.checkpoint_key import Checkpoint
from proxy.records.log_finding import FaultKind, Findings, Location, LogFinding

_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A checkpoint kept outside this host, at *place*, signed with *public_key* under configuration *config_digest*."""

    claim: Checkpoint
    public_key: str
    config_digest: str
    place: str


def checkpoint_in(record: dict[str, Any]) -> tuple[Checkpoint, str, str]:
    """Return the claim of the checkpoint *record*, its public key and its signature; missing members are empty."""
    signed = record.get("checkpoint")
    signed = signed if isinstance(signed, dict) else {}
    sequence = signed.get("sequence")
    claim = Checkpoint(
        instance=str(record.get("instance", "")),
        sequence=sequence if isinstance(sequence, int) else 0,
        hash=str(signed.get("hash", "")),
        time=str(record.get("time", "")),
        chain=chain_in(record.get("chain")),
    )
    return claim, str(signed.get("public_key", "")), str(signed.get("signature", ""))


def anchors_in(lines: Iterable[tuple[bytes, str]]) -> tuple[list[Anchor], tuple[LogFinding, ...]]:
    """Return an anchor for each validly signed checkpoint in *lines* (text and place), and a finding for each other.

    Records of other kinds are ignored, so a whole log can serve as a list of anchors.
    """
    anchors, findings = [], Findings()
    for number, (text, place) in enumerate(lines):
        record = object_in(text)
        if record.get("kind") != "lifecycle" or record.get("event") != "checkpoint":
            continue
        claim, key, signature = checkpoint_in(record)
        if claim.is_signed(key, signature) and _HASH.fullmatch(claim.hash):
            config_digest = str(record.get("config_digest", ""))
            anchors.append(Anchor(claim=claim, public_key=key, config_digest=config_digest, place=place))
        else:
            what = "this anchor's signature was not made by the key that it names"
            findings.error(FaultKind.FORGED, Location(number, place), claim.instance, claim.sequence, what)
    return anchors, findings.causes_first()


def object_in(line: bytes) -> dict[str, Any]:
    """Return the JSON object in *line*, {} if there is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
