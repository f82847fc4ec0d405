"""Identifies the caller: the step between the head and the plan."""

from proxy.callers.caller import ANONYMOUS, Caller, Callers, Proofs
from proxy.callers.facade import Facade
from proxy.callers.forwarded import TrustedProxies
from proxy.forwarding.caller_side import CallerSide
from proxy.forwarding.exchange import Exchange
from proxy.routing.request_head import RequestHead


class Identifier:
    """Identifies callers, also by tokens of the *facade* if there is one."""

    def __init__(self, *, callers: Callers, trusted_proxies: TrustedProxies, facade: Facade | None = None) -> None:
        self._callers = callers or None  # None: every request is from the anonymous caller
        self._trusted_proxies = trusted_proxies or None
        self._facade = facade

    def identify(self, side: CallerSide, exchange: Exchange, head: RequestHead) -> Caller:
        """Return the caller; store its address in *exchange*.

        Raises CallerUnauthenticated (403, 407), and CallerTokenInvalid (401) if there is a facade.
        """
        if self._callers is None:
            self._set_address(side, exchange, head)
            return ANONYMOUS
        proofs = self.proofs(side, exchange, head)
        if self._facade is not None:
            return self._facade.recognise(head.named.get(b"authorization", b""), proofs)
        return self._callers.identify(proofs)

    def proofs(self, side: CallerSide, exchange: Exchange, head: RequestHead) -> Proofs:
        """Return the proofs in the request, and store its address in *exchange*; does not identify the caller."""
        self._set_address(side, exchange, head)
        return Proofs(
            address=exchange.client_address,
            keys=head.keys,
            certificate_subject=side.certificate_subject,
            absolute_form=head.target.host is not None,
        )

    def _set_address(self, side: CallerSide, exchange: Exchange, head: RequestHead) -> None:
        if self._trusted_proxies is not None:
            exchange.client_address = self._trusted_proxies.client_address(
                side.peer,
                head.named.get(b"forwarded", b"").decode("latin-1"),
                head.named.get(b"x-forwarded-for", b"").decode("latin-1"),
            )
