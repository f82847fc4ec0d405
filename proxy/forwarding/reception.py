"""What was asked and who asks: the two questions before the plan."""

from proxy.callers.caller import ANONYMOUS, Caller, Callers, Proofs
from proxy.callers.forwarded import TrustedProxies
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.routing.head import HeadLimits, RequestHead


class Reception:
    """Reads heads and recognises callers."""

    def __init__(self, *, limits: HeadLimits, callers: Callers, trusted_proxies: TrustedProxies) -> None:
        self._limits = limits
        self._callers = callers
        self._trusted_proxies = trusted_proxies

    def read(self, side: CallerSide) -> RequestHead:
        """Return the head; raises what `RequestHead.of` raises."""
        return RequestHead.of(side.raw, self._limits)

    def identify(self, side: CallerSide, exchange: Exchange, head: RequestHead) -> Caller:
        """Return the caller and note its address on *exchange*; raises CallerUnauthenticated (403, 407)."""
        if self._trusted_proxies:
            exchange.client_address = self._trusted_proxies.client_address(
                side.peer,
                head.named.get(b"forwarded", b"").decode("latin-1"),
                head.named.get(b"x-forwarded-for", b"").decode("latin-1"),
            )
        if not self._callers:
            return ANONYMOUS
        return self._callers.identify(
            Proofs(
                address=exchange.client_address,
                keys=head.keys,
                certificate_subject=side.certificate_subject,
                absolute_form=head.target.host is not None,
            )
        )
