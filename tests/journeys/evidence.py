"""What is on disk: journals, the keeper's stream, the log file. Every whole line must be readable."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]


@dataclass(slots=True)
class Evidence:
    """Intents by id and attempt, and finished exchanges by id, with what was read of them where."""

    intents: dict[tuple[str, int], Record] = field(default_factory=dict)
    exchanges: dict[str, Record] = field(default_factory=dict)

    @property
    def unanswered(self) -> set[str]:
        """Return the ids of intents that no record completes."""
        return {id_ for id_, _ in self.intents} - self.exchanges.keys()

    def sends(self) -> Counter[str]:
        """Return by Idempotency-Key how many sends are on disk, as intents or in records."""
        attempts = Counter({id_: len(record["attempts"]) for id_, record in self.exchanges.items()})
        told = Counter(id_ for id_, _ in self.intents)
        keys = {id_: record["index"].get("Idempotency-Key", "") for (id_, _), record in self.intents.items()}
        keys |= {id_: record["index"].get("Idempotency-Key", "") for id_, record in self.exchanges.items()}
        sends: Counter[str] = Counter()
        for id_, key in keys.items():
            sends[key] += max(attempts[id_], told[id_])
        return sends

    def take(self, found: Iterator[Record]) -> None:
        """Note what the lines *found* say."""
        for line in found:
            match line["kind"]:
                case "intent":
                    self.intents[line["id"], line["attempt"]] = line
                case "exchange":
                    self.exchanges[line["id"]] = line
                case "position":
                    for intents in line["open"].values():
                        self.take(map(json.loads, intents))


def evidence(directory: Path) -> Evidence:
    """Return what is below *directory*/data and in its log file.

    In the order in which things move, so that nothing is missed that moves meanwhile.
    """
    found = Evidence()
    for path in sorted((directory / "data" / "journal").glob("*.jsonl")):
        found.take(lines(path))
    for path in sorted((directory / "data" / "stream").glob("records-*.jsonl")):
        found.take(lines(path))
    found.take(lines(directory / "requests.jsonl"))
    return found


def records(directory: Path) -> list[Record]:
    """Return the log file's exchanges, the first of each id."""
    found: dict[str, Record] = {}
    for line in lines(directory / "requests.jsonl"):
        if line["kind"] == "exchange":
            found.setdefault(line["id"], line)
    return list(found.values())


def record(directory: Path, id_: str) -> Record:
    """Return the log file's exchange *id_*, {} if it is not there yet."""
    return next((each for each in records(directory) if each["id"] == id_), {})


def lines(path: Path) -> Iterator[Record]:
    """Yield the lines of *path* up to the reserve's first NUL; of a torn last one nothing."""
    try:
        data = path.read_bytes().partition(b"\0")[0]
    except FileNotFoundError:
        return
    for text in data[: data.rfind(b"\n") + 1].splitlines():
        yield json.loads(text)
