import pytest

from proxy.simulator.faults import AFTER_THE_BODY, BEFORE_THE_BODY, GROUPS, WHEN_MINTING, Fault, FaultKind, Faults


def take(faults: Faults, path: str = "/payment/x", client: str = "c", method: str = "POST") -> list[str]:
    """Return the kinds that a request meets after its body was read."""
    return [fault.kind for fault in faults.take(AFTER_THE_BODY, path=path, client=client, method=method).values()]


def test_every_kind_has_a_group_that_is_asked_for() -> None:
    """No kind of fault is forgotten by the server."""
    assert set(GROUPS) == set(FaultKind)
    assert set(GROUPS.values()) == {*BEFORE_THE_BODY, *AFTER_THE_BODY, *WHEN_MINTING}


def test_a_fault_is_aimed() -> None:
    """Path prefix, client and method must all fit."""
    faults = Faults()
    faults.set(FaultKind.REFUSE, "/payment", client="c", method="POST")

    assert take(faults) == ["refuse"]
    assert take(faults, path="/tsapi") == []
    assert take(faults, client="d") == []
    assert take(faults, method="GET") == []


def test_a_fault_is_aimed_by_headers() -> None:
    """The request must have all of them with these values, their names in any case."""
    faults = Faults()
    faults.set(FaultKind.REFUSE, having={"X-System": "erp", "Accept": "*/*"})
    sent = {"x-system": "erp", "accept": "*/*"}

    def met(**changed: str) -> list[str]:
        headers = sent | changed
        return list(
            faults.take(
                AFTER_THE_BODY, path="/", client="", method="GET", header=lambda name: headers.get(name.lower())
            )
        )

    assert met() == ["instead"]
    assert met(accept="text/csv") == []
    assert take(faults) == []


def test_a_fault_happens_as_often_as_told() -> None:
    """times=2 hits two requests, then no more."""
    faults = Faults()
    faults.set(FaultKind.REFUSE, times=2)

    assert [take(faults) for _ in range(3)] == [["refuse"], ["refuse"], []]


def test_faults_of_a_group_come_one_after_the_other() -> None:
    """A request meets one fault of a group, the first; the second waits for the next request."""
    faults = Faults()
    faults.set(FaultKind.REFUSE, times=1)
    faults.set(FaultKind.STATUS, status=503, times=1)
    faults.set(FaultKind.SLOW, seconds=1)

    assert [take(faults) for _ in range(3)] == [["refuse", "slow"], ["status", "slow"], ["slow"]]


def test_an_early_refusal_comes_before_the_body() -> None:
    """The word early moves a refusal before the body is read."""
    faults = Faults()
    faults.set(FaultKind.STATUS, status=413, early=True)

    assert take(faults) == []
    assert list(faults.take(BEFORE_THE_BODY, path="/", client="", method="POST")) == ["early"]


def test_faults_can_be_taken_away() -> None:
    """After clear all is well again; the list says how often each was met."""
    faults = Faults()
    faults.set(FaultKind.REFUSE, times=3)
    take(faults)

    assert [(each["kind"], each["met"], each["left"]) for each in faults.as_list()] == [("refuse", 1, 2)]
    assert repr(faults) == "<Faults [1 armed, 1 set]>"
    faults.clear()
    assert take(faults) == []


def test_a_fault_is_read_from_json() -> None:
    """What as_dict writes, of reads."""
    fault = Fault(kind=FaultKind.FIELDS, path="/oauth2", fields={"expires_in": "x"}, without=("scope",))

    assert Fault.of(fault.as_dict()) == fault


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"kind": "nonsense"},
        {"kind": "slow", "second": 1},
        {"kind": "slow", "seconds": "1"},
        {"kind": "slow", "times": "1"},
        {"kind": "slow", "path": 1},
    ],
)
def test_a_fault_that_is_none_is_refused(value: object) -> None:
    """Unknown kinds, names and types are errors, not faults that never happen."""
    with pytest.raises((ValueError, TypeError)):
        Fault.of(value)
