"""The caller's address behind trusted load balancers (RFC 7239)."""

from collections.abc import Iterable
from ipaddress import ip_network

from proxy.callers.caller import parse_address
from proxy.errors import BadRequest


class TrustedProxies:
    """Networks whose Forwarded and X-Forwarded-For headers are trusted."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(text) for text in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def client_address(self, peer: str, forwarded: str, x_forwarded_for: str) -> str:
        """Return the nearest address that is not a trusted proxy's; *peer* itself if it is not trusted.

        Both headers are read from the right, since only what a trusted proxy appended is reliable. Raises BadRequest if
        they name two callers: a load balancer that sets one passes on the other as the caller wrote it.
        """
        if not self._trusts(peer):
            return peer
        found = {
            self._nearest(peer, hops)
            for hops in (_for_parameters(forwarded), [hop.strip() for hop in x_forwarded_for.split(",")])
            if any(hops)
        }
        if len(found) > 1:
            raise BadRequest(
                "Forwarded and X-Forwarded-For name two callers; the load balancer must set or remove both."
            )
        return found.pop() if found else peer

    def _nearest(self, peer: str, hops: list[str]) -> str:
        address = peer
        while hops and self._trusts(address):
            hop = _bare(hops.pop())
            if parse_address(hop) is None:
                break
            address = hop
        return address

    def _trusts(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(address.version == net.version and address in net for net in self._networks)


def _for_parameters(forwarded: str) -> list[str]:
    found = []
    for element in forwarded.split(","):
        for pair in element.split(";"):
            name, _, value = pair.strip().partition("=")
            if name.lower() == "for":
                found.append(value.strip('"'))
    return found


def _bare(hop: str) -> str:
    """Return *hop* without port and brackets."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
