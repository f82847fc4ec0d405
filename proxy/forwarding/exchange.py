"""The state of one request: the only mutable object on the data path."""

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
    """What is known about a request in flight: its summary, and what else the data path needs.

    *abandoned* is the plan for the modern side after *plan* became its fallback, *pinning* the task that pins retries
    to a side, *key* the entry in the table of idempotency keys in flight.
    """

    __slots__ = ("abandoned", "head", "key", "pinning", "plan", "retryable")

    def __init__(
        self, request_id: str, *, started: float, started_wall: float, client_address: str, method: str
    ) -> None:
        super().__init__(
            request_id, started=started, started_wall=started_wall, client_address=client_address, method=method
        )
        self.head: RequestHead | None = None
        self.plan: Plan | None = None
        self.abandoned: Plan | None = None
        self.pinning: asyncio.Task[bool] | None = None
        self.key: KeyInFlight | None = None
        self.retryable = False

    def set_head(self, head: RequestHead) -> RequestHead:
        """Store the request *head*, and return it."""
        self.head = head
        self.path = head.target.path
        self.query = head.target.query
        return head

    def set_caller(self, caller: Caller) -> Caller:
        """Store the caller, and return it."""
        self.caller = caller.name
        self.caller_proof = caller.proof
        return caller

    def set_plan(self, plan: Plan) -> Plan:
        """Store the plan that is executed from now on, and return it."""
        self.plan = plan
        self.chosen = plan.chosen
        self.retry = "" if plan.keyed is None else plan.keyed.digest
        return plan

    def failed(self, error: ProxyError) -> None:
        """Store *error*, which the caller gets instead of the bank's response."""
        # Otherwise the frames, and the body they reference, would live until garbage collection. The error is known.
        error.__traceback__ = None
        self.origin = "proxy"
        self.code = error.code
        self.cause = error.cause
        self.status = error.status
        self.retryable = error.retryable and self.sent_upstream is _NO
