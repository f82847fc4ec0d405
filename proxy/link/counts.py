"""What a worker has counted since its last report: sums by their labels (`telemetry.counters`)."""

from typing import Annotated, NamedTuple

# Callers choose methods and the bank chooses statuses: what a worker sends stays short.
Label = Annotated[str, "at most 300 characters"]
StatusCode = Annotated[int, "0 to 999"]
# The number of observations in each bucket of a histogram, and last their sum in seconds.
Histogram = list[float]


class RequestCount(NamedTuple):
    """Requests of callers; *status* 0: none was answered. *code* is "" for the bank's answers."""

    method: Label
    route: Label
    status: StatusCode
    sent: Label
    code: Label
    row: Histogram


class SendCount(NamedTuple):
    """Requests to the bank's host *address*; *status* 0: no answer came."""

    address: Label
    status: StatusCode
    row: Histogram


class OverheadCount(NamedTuple):
    """The proxy's own share of the requests of *route*."""

    route: Label
    row: Histogram


class ReplayCount(NamedTuple):
    """Refused tokens of *credential* by what came of them."""

    credential: Label
    outcome: Label
    amount: float


class SignatureCount(NamedTuple):
    """Bodies of *route* that a worker refused to have signed by itself, by why: overloaded, unanswered."""

    route: Label
    outcome: Label
    amount: float


class CertificateCount(NamedTuple):
    """Certificates of callers that were refused, by *reason*: one of `telemetry.counters.REFUSED_CERTIFICATES`."""

    reason: Label
    amount: float


class Counts(NamedTuple):
    """All sums since the last report."""

    requests: tuple[RequestCount, ...] = ()
    sends: tuple[SendCount, ...] = ()
    overhead: tuple[OverheadCount, ...] = ()
    replays: tuple[ReplayCount, ...] = ()
    signatures: tuple[SignatureCount, ...] = ()
    certificates: tuple[CertificateCount, ...] = ()
