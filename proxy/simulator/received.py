"""What has reached the simulator, for tests that ask who saw what, how often, and in which bytes."""

import base64
import json
import os
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.simulator.access_tokens import fingerprint
from proxy.simulator.faults import Fault

# Distinct paths that are counted; a scanner's further ones are counted together.
_MANY_PATHS = 10_000
RawHeaders = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True, kw_only=True)
class Received:
    """One request; it fills while it is read and answered.

    *when* is the bank's wall clock, *target* the raw request target. In *headers*, as received otherwise, the value of
    Authorization is replaced by scheme and fingerprint. *payload_sha256* is of the payload of a signed body whose
    signature was verified, else "". *complete* says whether the whole body arrived, *status* is 0 until answered or if
    it never was, *note* says why a credential was refused, *fault* which kinds were met.
    """

    number: int = 0
    when: float
    port: int
    method: str
    target: str
    headers: RawHeaders
    token_fingerprint: str = ""
    client_id: str = ""
    body_size: int = 0
    body_sha256: str = ""
    payload_sha256: str = ""
    complete: bool = False
    status: int = 0
    note: str = ""
    fault: str = ""

    @property
    def path(self) -> str:
        """The raw target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return the first value of header *name*, any case, or None."""
        wanted = name.lower().encode()
        for key, value in self.headers:
            if key.lower() == wanted:
                return value.decode("latin-1")
        return None

    def meets(self, faults: Iterable[Fault]) -> None:
        """Note the faults that the request has met."""
        for fault in faults:
            self.fault = f"{self.fault} {fault.kind}".lstrip()

    def as_dict(self) -> dict[str, Any]:
        """Return the request as JSON takes it; header bytes read as Latin-1, so that none is lost."""
        return {
            "number": self.number,
            "when": self.when,
            "port": self.port,
            "method": self.method,
            "target": self.target,
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers],
            "token_fingerprint": self.token_fingerprint,
            "client_id": self.client_id,
            "body_size": self.body_size,
            "body_sha256": self.body_sha256,
            "payload_sha256": self.payload_sha256,
            "complete": self.complete,
            "status": self.status,
            "note": self.note,
            "fault": self.fault,
        }


class RequestLog:
    """The last *keep* requests, counts of all, and optionally a file that has each before it is answered."""

    def __init__(self, *, keep: int = 10_000, journal: Path | None = None) -> None:
        self.requests: deque[Received] = deque(maxlen=keep)
        self.by_path: Counter[str] = Counter()
        self.total = 0
        self._journal = -1
        if journal is not None:
            self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def arrived(self, received: Received) -> None:
        """Note a request whose head has arrived."""
        self.total += 1
        received.number = self.total
        self.requests.append(received)
        path = received.path
        self.by_path[path if path in self.by_path or len(self.by_path) < _MANY_PATHS else "(others)"] += 1

    def append_to_journal(self, received: Received) -> None:
        """Append the request to the journal file: the operating system has it when this returns, also after kill -9."""
        if self._journal >= 0:
            os.write(self._journal, json.dumps(received.as_dict(), separators=(",", ":")).encode() + b"\n")

    def clear(self) -> None:
        """Forget requests and counts; the journal file stays."""
        self.requests.clear()
        self.by_path.clear()
        self.total = 0

    def close(self) -> None:
        """Close the journal file."""
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def __repr__(self) -> str:
        return f"<RequestLog [{self.total} received, {len(self.requests)} kept]>"


def without_credentials(headers: RawHeaders) -> tuple[RawHeaders, str]:
    """Return the headers with each Authorization reduced to scheme and fingerprint, and the first fingerprint or ""."""
    token = ""
    for index, (name, value) in enumerate(headers):
        if len(name) == 13 and name.lower() == b"authorization":
            scheme, _, credential = value.partition(b" ")
            # Nobody promised a scheme: without one the whole value is the credential.
            mark = fingerprint((credential or scheme).decode("utf-8", "surrogateescape"))
            shown = (scheme + b" " if credential else b"") + mark.encode()
            headers = (*headers[:index], (name, shown), *headers[index + 1 :])
            token = token or mark
    return headers, token


def bearer(headers: RawHeaders) -> str:
    """Return the one bearer token of the request, any case of the scheme; "" for none, several or another scheme."""
    values = [value for name, value in headers if len(name) == 13 and name.lower() == b"authorization"]
    if len(values) != 1:
        return ""
    scheme, _, token = values[0].partition(b" ")
    return token.decode("utf-8", "surrogateescape") if scheme.lower() == b"bearer" else ""


def basic(headers: RawHeaders) -> tuple[str, str] | None:
    """Return the two parts of HTTP Basic authentication, still form-encoded (RFC 6749 2.3.1), or None."""
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if len(values) != 1 or not values[0].lower().startswith(b"basic "):
        return None
    try:
        user, colon, password = base64.b64decode(values[0][6:].strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, password) if colon else None
