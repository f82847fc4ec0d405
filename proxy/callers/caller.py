"""Identifies the caller of a request by all proofs that its configuration demands."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from proxy.errors import CallerUnauthenticated
from proxy.settings.worker_values import CallerValues

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# Addresses are cached; the limit keeps a scan from many addresses from filling the memory.
_REMEMBERED_ADDRESSES: Final = 4096


@dataclass(frozen=True, slots=True)
class Caller:
    """An identified caller; *proof* names the proofs, for the record; *rate* is requests per second, 0 for no limit."""

    name: str
    proof: str
    rate: float = 0.0


ANONYMOUS: Final = Caller("", "")


@dataclass(slots=True, kw_only=True)
class Proofs:
    """The proofs in a request: source address, keys, subject of the client certificate."""

    address: str
    keys: tuple[bytes, ...]
    certificate_subject: str
    absolute_form: bool


@dataclass(frozen=True, slots=True)
class _Known:
    values: CallerValues
    networks: tuple[Network, ...]
    keyed: bool  # it has to send a key or, instead, a token of the facade
    proof: str

    def proof_by(self, stand_in: str) -> str:
        """Return the proof with *stand_in* instead of the key."""
        return "+".join(stand_in if name == "key" else name for name in self.proof.split("+"))


class Callers:
    """The configured callers; with none, every request is from the anonymous caller."""

    def __init__(self, callers: Iterable[CallerValues]) -> None:
        self._known = tuple(_known(values) for values in callers)
        self._by_address: dict[str, tuple[tuple[_Known, int], ...]] = {}

    def __bool__(self) -> bool:
        """Return whether any caller is configured."""
        return bool(self._known)

    def identify(self, proofs: Proofs) -> Caller:
        """Return the caller whose configured proofs all hold; the most specific one if several match.

        Raises CallerUnauthenticated: 403, or 407 if the request came in absolute-form (RFC 9110 15.5.8).
        """
        if not self._known:
            return ANONYMOUS
        digests = {hashlib.sha256(key).hexdigest() for key in proofs.keys}
        best: list[tuple[tuple[int, int], _Known]] = []
        for known, network_bits in self._near(proofs.address):
            values = known.values
            if known.keyed and not digests.intersection(values.api_key_sha256):
                continue
            if values.certificate_subject and values.certificate_subject != proofs.certificate_subject:
                continue
            rank = (known.keyed + bool(values.certificate_subject), network_bits)
            if not best or rank > best[0][0]:
                best = [(rank, known)]
            elif rank == best[0][0]:
                best.append((rank, known))
        status = 407 if proofs.absolute_form else 403
        if not best:
            raise CallerUnauthenticated("No configured caller matches this request's address and key.", status=status)
        if len(best) > 1:
            names = ", ".join(sorted(known.values.name for _, known in best))
            raise CallerUnauthenticated(
                "Two configured callers match this request equally well.", status=status, cause=f"callers {names}"
            )
        known = best[0][1]
        return Caller(known.values.name, known.proof, known.values.max_requests_per_second)

    def confirm(self, name: str, proofs: Proofs, *, stand_in: str) -> Caller:
        """Return the caller *name*, for which *stand_in* (a token or an assertion) is proof instead of its key.

        Its networks and its certificate must still match. Raises CallerUnauthenticated (403, 407).
        """
        for known, _ in self._near(proofs.address):
            values = known.values
            if values.name == name and values.certificate_subject in ("", proofs.certificate_subject):
                return Caller(name, known.proof_by(stand_in), values.max_requests_per_second)
        raise CallerUnauthenticated(
            "The caller that the token belongs to does not call from this address or with this certificate.",
            status=407 if proofs.absolute_form else 403,
            cause=f"caller {name}: its networks or its certificate_subject do not hold",
        )

    def _near(self, address: str) -> tuple[tuple[_Known, int], ...]:
        near = self._by_address.get(address)
        if near is None:
            near = tuple((known, bits) for known in self._known if (bits := _bits(known.networks, address)) >= 0)
            if len(self._by_address) >= _REMEMBERED_ADDRESSES:
                self._by_address.clear()
            self._by_address[address] = near
        return near


def key_in_basic(value: bytes) -> bytes | None:
    """Return the password of a Basic credential (RFC 7617), where callers may send their key, or None."""
    pair = basic_pair(value)
    return pair[1] if pair else None


def basic_pair(value: bytes) -> tuple[bytes, bytes] | None:
    """Return user and password of a Basic credential (RFC 7617), None if *value* is not valid."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon else None


def _known(values: CallerValues) -> _Known:
    # Also without [facade]: a caller whose only proof is a token of the facade must not match every request.
    keyed = bool(values.api_key_sha256 or values.facade_client_id)
    proof = "+".join(
        name
        for name, configured in (
            ("network", values.networks),
            ("key", keyed),
            ("certificate", values.certificate_subject),
        )
        if configured
    )
    return _Known(values, tuple(ip_network(text) for text in values.networks), keyed, proof)


def _bits(networks: tuple[Network, ...], text: str) -> int:
    """Return the longest prefix of *networks* that holds the address, 0 without networks, -1 if none holds it."""
    if not networks:
        return 0
    address = parse_address(text)
    if address is None:
        return -1
    return max((net.prefixlen for net in networks if address.version == net.version and address in net), default=-1)


def parse_address(text: str) -> Address | None:
    """Return the IP address in *text*, an IPv4-mapped one as IPv4, or None (a Unix socket's peer has none)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
