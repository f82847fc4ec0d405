"""Configurations whose bodies are signed, callers of them, and what the bank made of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from proxy.simulator.received import Received
from proxy.simulator.server import Bank
from tests.credentials.support_keys import make_pair
from tests.journeys.caller import Request
from tests.journeys.support import configured

PAYMENTS = "/payment/v2/payments"
# With a card number, a number that JSON libraries write in another way, and bytes that are no UTF-8.
BODY = b'{"card": "4111111111111111", "amount": 10.00,\r\n  "note": "\xff as it is"}'


@dataclass(kw_only=True)
class Signing:
    """A key for bodies in *folder*, which the bank knows."""

    folder: Path
    bank: Bank

    def pair(self, name: str = "signature") -> tuple[Path, Path]:
        """Make a key and its certificate."""
        return make_pair(self.folder, name=name)

    def knows(self, *certificates: Path) -> None:
        """Have the bank demand signatures by the keys of *certificates* only."""
        self.bank.world.require_signature(PAYMENTS, b"".join(one.read_bytes() for one in certificates))

    def write(self, signature: str, *, server: str = "", credential: str = "", route: str = "", more: str = "") -> Path:
        """Write a configuration whose payments are signed as *signature* says."""
        path = configured(self.folder, self.bank.url, server=server, credential=credential, route=route)
        path.write_text(f"{path.read_text()}signature = {{{signature}}}\n{more}")
        return path


def paid(key: str, *, method: str = "POST", body: bytes = BODY) -> Request:
    """Return a payment with that Idempotency-Key."""
    return Request(method=method, path=PAYMENTS, key=key, headers={"Content-Type": "application/json"}, body=body)


def seen(bank: Bank) -> list[Received]:
    """Return the payments that the bank received."""
    return [one for one in bank.world.log.requests if one.path == PAYMENTS and one.method in ("POST", "PUT")]


def sha256(body: bytes) -> str:
    """Return the digest by which the bank's books know a body."""
    return hashlib.sha256(body).hexdigest()
