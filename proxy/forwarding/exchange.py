"""One request while it lives: the one mutable thing on the data path."""

import asyncio
from typing import Final

from proxy.callers.caller import Caller
from proxy.errors import ProxyError, Sent
from proxy.migration.in_flight import KeyInFlight
from proxy.request_summary import RequestSummary
from proxy.routing.plan import Plan
from proxy.routing.request_head import RequestHead

_NO: Final = Sent.NO


class Exchange(RequestSummary):
    """What is known of a request so far: its account, and what else the data path needs while it lives.

    *given_up* is the plan for the modern side after *plan* became its fallback, *keeping* ends once retries are pinned
    to a side, *key* is its entry among the keys in flight.
    """

    __slots__ = ("given_up", "head", "keeping", "key", "plan", "retryable")

    def __init__(self, request_id: str, *, began: float, began_wall: float, client_address: str, method: str) -> None:
        super().__init__(request_id, began=began, began_wall=began_wall, client_address=client_address, method=method)
        self.head: RequestHead | None = None
        self.plan: Plan | None = None
        self.given_up: Plan | None = None
        self.keeping: asyncio.Task[bool] | None = None
        self.key: KeyInFlight | None = None
        self.retryable = False

    def asks(self, head: RequestHead) -> RequestHead:
        """Note what is asked, and return it."""
        self.head = head
        self.path = head.target.path
        self.query = head.target.query
        return head

    def comes_from(self, caller: Caller) -> Caller:
        """Note who asks, and return it."""
        self.caller = caller.name
        self.caller_proof = caller.proof
        return caller

    def follows(self, plan: Plan) -> Plan:
        """Note what is done from now on, and return it."""
        self.plan = plan
        self.chosen = plan.chosen
        self.retry = "" if plan.keyed is None else plan.keyed.digest
        return plan

    def failed(self, error: ProxyError) -> None:
        """Note that the caller gets *error* instead of the bank's answer."""
        # Else its frames, and what they hold of the body, wait for the garbage collector: `forward` knows the error.
        error.__traceback__ = None
        self.origin = "proxy"
        self.code = error.code
        self.cause = error.cause
        self.status = error.status
        self.retryable = error.retryable and self.sent_upstream is _NO
