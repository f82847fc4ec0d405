"""Reads the request head and identifies the caller: the two steps before the plan."""

from proxy.callers.caller import ANONYMOUS, Caller, Callers, Proofs
from proxy.callers.facade import Facade
from proxy.callers.forwarded import TrustedProxies
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.routing.request_head import HeadLimits, RequestHead


class Identifier:
    """Reads heads and identifies callers, also by tokens of the *facade* if there is one."""

    def __init__(
        self, *, limits: HeadLimits, callers: Callers, trusted_proxies: TrustedProxies, facade: Facade | None = None
    ) -> None:
        self._limits = limits
        self._callers = callers
        self._trusted_proxies = trusted_proxies
        self._facade = facade

    def read(self, side: CallerSide) -> RequestHead:
        """Return the head; raises what `RequestHead.of` raises."""
        return RequestHead.of(side.raw, self._limits)

    def identify(self, side: CallerSide, exchange: Exchange, head: RequestHead) -> Caller:
        """Return the caller; store its address in *exchange*.

        Raises CallerUnauthenticated (403, 407), and CallerTokenInvalid (401) if there is a facade.
        """
        if self._trusted_proxies:
            exchange.client_address = self._behind_proxies(side, head)
        if not self._callers:
            return ANONYMOUS
        proofs = _proofs(side, exchange, head)
        if self._facade is not None:
            return self._facade.recognise(head.named.get(b"authorization", b""), proofs)
        return self._callers.identify(proofs)

    def proofs(self, side: CallerSide, exchange: Exchange, head: RequestHead) -> Proofs:
        """Return the proofs in the request, and store its address in *exchange*; does not identify the caller."""
        if self._trusted_proxies:
            exchange.client_address = self._behind_proxies(side, head)
        return _proofs(side, exchange, head)

    def _behind_proxies(self, side: CallerSide, head: RequestHead) -> str:
        return self._trusted_proxies.client_address(
            side.peer,
            head.named.get(b"forwarded", b"").decode("latin-1"),
            head.named.get(b"x-forwarded-for", b"").decode("latin-1"),
        )


def _proofs(side: CallerSide, exchange: Exchange, head: RequestHead) -> Proofs:
    return Proofs(
        address=exchange.client_address,
        keys=head.keys,
        certificate_subject=side.certificate_subject,
        absolute_form=head.target.host is not None,
    )
