"""What callers and the bank gave reaches no sink with a card number, an IBAN or a token in it."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID  # noqa: TID251 - a value of theirs, not one to be made

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.clock import SystemClock
from proxy.entropy import SystemEntropy
from proxy.events import MintFailed
from proxy.records.audit_records import AuditRecords, Operation
from proxy.records.command_record import write_command_record
from proxy.records.payment_numbers import IBAN_LENGTHS, luhn
from proxy.records.sinks.file import FileSink
from proxy.records.sinks.otlp import otlp_sinks
from proxy.records.sinks.otlp_target import targets
from proxy.records.sinks.sink import Sink
from proxy.records.sinks.sqlite import SqliteSink
from proxy.records.sinks.stdout import StdoutSink
from tests.records.chains import MASK
from tests.records.sinks.collector import collector
from tests.records.support import CONTEXT, an_exchange, complete, open_journal, running_shipper, until

# What it is written in, for a test to look for, and what must not be found.
Planted = tuple[str, str]


def _with_check_digit(digits: str) -> str:
    return next(digits + str(check) for check in range(10) if luhn(digits + str(check)))


def _iban(country: str, account: str) -> str:
    number = "".join(str(int(char, 36)) for char in account + country + "00")
    return f"{country}{98 - int(number) % 97:02d}{account}"


def _grouped(text: str, separator: str) -> str:
    return separator.join(text[at : at + 4] for at in range(0, len(text), 4))


@st.composite
def cards(draw: st.DrawFn) -> Planted:
    """Draw a card number with an issuer's prefix and length, in one of the spellings that people use."""
    prefix, length = draw(st.sampled_from([("4", 16), ("4", 13), ("55", 16), ("2221", 16), ("34", 15), ("6011", 16)]))
    free = length - len(prefix) - 1
    digits = _with_check_digit(prefix + draw(st.text("0123456789", min_size=free, max_size=free)))
    return _grouped(digits, draw(st.sampled_from(["", " ", "-"]))), digits


@st.composite
def ibans(draw: st.DrawFn) -> Planted:
    """Draw an IBAN of a country whose accounts have digits only, so that any digits make one."""
    country = draw(st.sampled_from(["DE", "AT", "ES", "PT", "BE"]))
    size = IBAN_LENGTHS[country] - 4
    plain = _iban(country, draw(st.text("0123456789", min_size=size, max_size=size)))
    return _grouped(plain, draw(st.sampled_from(["", " "]))), plain


@st.composite
def tokens(draw: st.DrawFn) -> Planted:
    """Draw a JWT."""
    part = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=12, max_size=40)
    token = f"eyJ{draw(part)}.{draw(part)}.{draw(part)}"
    return token, token


WORDS = st.text("abcdefgh /._", max_size=12)
PLANTED = st.tuples(WORDS, st.one_of(cards(), ibans(), tokens()), WORDS)
PLACES = ("path", "query", "index", "cause", "reason", "error")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PLANTED, min_size=6, max_size=24))
def test_no_secret_survives_into_any_sink(
    tmp_path_factory: pytest.TempPathFactory, planted: list[tuple[str, Planted, str]]
) -> None:
    """File, stdout, SQLite and OTLP, by way of journal and stream: exchanges, operations, failed mints."""
    directory = tmp_path_factory.mktemp("data")

    kept = asyncio.run(_through_every_sink(directory, [f"{a}, {spelt}, {b}" for a, (spelt, _), b in planted]))

    assert len(kept) == 4
    for name, everything in kept.items():
        bare = "".join(char for char in everything if char not in " -")
        for _, (spelt, plain), _ in planted:
            assert spelt not in everything, name
            assert plain not in everything, name
            assert plain.replace("-", "") not in bare, name


@given(st.integers(1_000_000_000_000, 1_999_999_999_999), st.uuids(version=4))
@example(1_000_000_000_000, UUID("5cc56ad172b845e5a71f039ef9e86063"))
def test_what_only_looks_like_one_survives_as_an_index_value(milliseconds: int, order: Any) -> None:
    """People search by times and order numbers: whatever they pass, they can be found."""
    for value in (str(milliseconds), str(order), f"order-{milliseconds}", order.hex):
        if not _has_issued_card(value):
            assert MASK.index(value) == value


def _has_issued_card(value: str) -> bool:
    """Return whether digits in *value* are a card's to any reader: by prefix, length and check digit."""
    return MASK.index("".join(char if char.isdigit() else "x" for char in value)) != "".join(
        char if char.isdigit() else "x" for char in value
    )


async def _through_every_sink(directory: Path, texts: list[str]) -> dict[str, str]:
    """Return what each sink keeps of records that have *texts* wherever callers and the bank can put some."""
    clock, entropy = SystemClock(), SystemEntropy()
    records = AuditRecords(CONTEXT, mask=MASK, clock=clock, entropy=entropy)
    reader, writer = os.pipe()
    pipe = _Pipe(reader)
    number = 0
    async with collector() as it:
        sinks: list[Sink] = [
            FileSink(directory / "log.jsonl"),
            StdoutSink(writer),
            SqliteSink(directory / "requests.db"),
            *otlp_sinks(targets({"OTEL_EXPORTER_OTLP_ENDPOINT": it.url}), clock=clock),
        ]
        async with open_journal(directory, durable=False) as journal, running_shipper(directory, *sinks) as shipper:
            for at, text in enumerate(texts):
                place = PLACES[at % len(PLACES)]
                number += 1
                if place == "reason":
                    operation = Operation(who="root", proof="unix socket", what="POST /x", reason=text)
                    write_command_record(directory, records.operation(operation), entropy=entropy)
                elif place == "error":
                    failed = MintFailed(
                        credential="c", audience="a", code="token_refused", error=text, cause=text, retry_in=1.0
                    )
                    write_command_record(directory, records.mint_failed(failed), entropy=entropy)
                else:
                    await complete(journal, an_exchange(**_planted(place, text)))
            await until(lambda: shipper._stream.end.sequence >= number and shipper.backlog_records == 0)
        seen = [str(one) for one in (*it.logs, *it.spans)]
        assert len(it.logs) == number
    os.close(writer)
    pipe.thread.join()
    return {
        "file": (directory / "log.jsonl").read_text(),
        "stdout": pipe.data.decode(),
        "database": _databases(directory),
        "otlp": "\n".join(seen),
    }


def _databases(directory: Path) -> str:
    return "".join(path.read_bytes().decode(errors="replace") for path in directory.glob("requests-*"))


def _planted(place: str, text: str) -> dict[str, Any]:
    kinds: dict[str, Callable[[str], Any]] = {
        "path": lambda text: f"/{text}",
        "query": lambda text: f"?{text}",
        "index": lambda text: (("Request-Id", text),),
        "cause": str,
    }
    return {place: kinds[place](text)}


class _Pipe:
    """Reads a pipe to its end."""

    def __init__(self, descriptor: int) -> None:
        self.data = b""
        self._descriptor = descriptor
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        while piece := os.read(self._descriptor, 65536):
            self.data += piece
        os.close(self._descriptor)


def test_the_planted_are_what_they_pretend() -> None:
    """Else nothing would be tested."""
    assert luhn(_with_check_digit("411111111111111"))
    assert _iban("DE", "370400440532013000") == "DE89370400440532013000"
