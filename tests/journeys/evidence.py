"""What is on disk: journals, the keeper's stream, the log file. Every whole line must be readable."""

import fcntl
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


def ended_workers(directory: Path) -> set[str]:
    """Return the workers that have left a journal below *directory*/data: nobody holds its lock."""
    return {path.stem for path in (directory / "data" / "journal").glob("*.lock") if _is_free(path)}


def held_journals(directory: Path) -> set[str]:
    """Return the workers whose process has its journal below *directory*/data: it may write to it yet."""
    return {path.stem for path in (directory / "data" / "journal").glob("w*.lock") if not _is_free(path)}


def in_flight(directory: Path) -> set[str]:
    """Return the ids that the ended workers took with them: sent, and no record completes them.

    Exact while the keeper stands still: it is what completes them.
    """
    ended = ended_workers(directory)
    found = Evidence()
    for path in (directory / "data" / "journal").glob("*.jsonl"):
        if path.stem.rpartition("-")[0] in ended:
            found.take(lines(path))
    marks = [
        line
        for path in sorted((directory / "data" / "stream").glob("records-*.jsonl"), key=_number)
        for line in lines(path)
        if line["kind"] == "position"
    ]
    for worker, intents in marks[-1]["open"].items() if marks else ():
        if worker in ended:
            found.take(map(json.loads, intents))
    return {id_ for id_, _ in found.intents} - evidence(directory).exchanges.keys()


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


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _is_free(lock: Path) -> bool:
    """Return whether nobody holds *lock*; also if it is gone by now."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True
