"""`python -m tests.records.dearest SECONDS`: a search for the request whose record is the dearest to mask.

It puts together what numbers, tokens and escapes are made of, keeps what costs most, and changes that again.
"""

import random  # noqa: TID251 - only repeatable
import sys
import time  # noqa: TID251 - CPU is measured
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.records.mask import Mask
from proxy.records.record import RecordBuilder, RecordContext
from proxy.request_summary import Chosen
from tests.records.support import an_exchange

_PIECES = (
    *("0", "4", "12", "3782", "4111", "4111111111111111", "GB12", "LC12", "MT84MALT", "DE89 3704 0044 0532 0130 00"),
    *("DE", "gb", "A", "x", "f", " ", "-", "+", "  ", ".", "_", "/", ":", ",", "%", "%3", "%31", "%20", "%2531", "%2D"),
    *(
        "%252531",
        "%C3%A9",
        "%E2%80%93",
        "%FF",
        "eyJ",
        "eyJhbGciOi.",
        "\u00e9",
        "\uff14",
        "\u2013",
        "\u00a0",
        "\U0001f4b3",
    ),
    *("12345678-1234-1234-1234-123456789012", "0a345678-1234-1234-1234-123456789012", "4111.1111.1111.1111."),
    *("GB.82.WEST", "0 0 0 0 0 0 0 0 0 0 0 0 0 "),
)
_CONTEXT = RecordContext(environment="mock", instance="host-1", config_digest="0" * 16)
_SERVED = Chosen(route="payments")
_HEAD = 65536  # server.max_header_bytes


@dataclass(slots=True)
class Candidate:
    """What a caller sends: *texts* are path, query's keys, method and cause, the rest index headers."""

    served: bool
    texts: list[str]
    cost: float = 0.0

    def measure(self) -> "Candidate":
        """Note how many seconds of CPU the record takes, the least of some tries: others need the CPU too."""
        path, query, method, cause, *values = self.texts
        account = an_exchange(
            path=f"/{path}",
            query=f"?{query}",
            method=method,
            cause=cause,
            index=tuple((f"h{number % 5}", value) for number, value in enumerate(values)),
            chosen=_SERVED if self.served else Chosen(),
        )
        builder = RecordBuilder(_CONTEXT, Mask(bytes(32)))
        costs = []
        for _ in range(4):
            account.rendered_for = None
            builder._paths.clear()
            builder._asked.clear()
            started = time.thread_time()
            builder.exchange(account)
            costs.append(time.thread_time() - started)
        self.cost = min(costs)
        return self


def search(chance: random.Random, *, served: bool) -> Iterator[Candidate]:
    """Yield the dearest candidate found so far, for ever."""
    best = [Candidate(served=served, texts=_texts(chance)).measure() for _ in range(8)]
    while True:
        parent = chance.choice(best)
        texts = _texts(chance) if chance.random() < 0.2 else [_changed(chance, text) for text in parent.texts]
        best.append(Candidate(served=served, texts=texts).measure())
        best.sort(key=lambda one: -one.cost)
        del best[8:]
        yield best[0]


def _texts(chance: random.Random) -> list[str]:
    number = 4 + chance.choice([1, 2, 5, 16, 33, 100])
    size = chance.choice([2, 20, 200, 2048, _HEAD // number])
    texts = [_text(chance, size) for _ in range(number)]
    if chance.random() < 0.3:
        texts[1] = "&".join(_text(chance, chance.choice([1, 4, 13, 16])) for _ in range(64))
    return texts


def _text(chance: random.Random, size: int) -> str:
    unit = "".join(chance.choice(_PIECES) for _ in range(chance.choice([1, 1, 2, 3, 6])))
    return (unit * (size // len(unit) + 1))[:size]


def _changed(chance: random.Random, text: str) -> str:
    if chance.random() < 0.7:
        return text
    if chance.random() < 0.3:
        return _text(chance, max(1, len(text)))
    at = chance.randrange(len(text) + 1)
    piece = chance.choice(_PIECES)
    return f"{text[:at]}{piece * chance.choice([1, 1, 4, 20])}{text[at + chance.choice([0, len(piece)]) :]}"


def main(seconds: float) -> None:
    """Search for *seconds* and print what was found."""
    chance = random.Random()  # noqa: S311 - as above
    for served in (True, False):
        until = time.monotonic() + seconds / 2
        said = 0.0
        for found in search(chance, served=served):
            if found.cost > said * 1.02:
                said = found.cost
                texts = [text[:40] for text in found.texts[:6]]
                sys.stdout.write(f"{'served' if served else 'refused'} {said * 1e3:.3f} ms {texts}\n")
            if time.monotonic() > until:
                break


if __name__ == "__main__":
    main(float(sys.argv[1]))
