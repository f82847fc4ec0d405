"""Messages between keeper and worker: each comes out as it went in, and what is malformed is one error."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.link.codec import MessageInvalid, decode, encode
from proxy.link.counts import Counts, OverheadCount, ReplayCount, RequestCount, SendCount, SignatureCount
from proxy.link.messages import (
    Accept,
    Acknowledged,
    ClaimCheck,
    ClaimDropped,
    ClaimRequest,
    Drain,
    Message,
    MigrationStates,
    NewPins,
    Outcomes,
    PinAnswer,
    PinRelease,
    PinRequest,
    Ready,
    RefusalAnswer,
    Replayed,
    ReplicaContact,
    Serve,
    SignatureAnswer,
    SignatureRequest,
    TokenAccepted,
    TokenAsked,
    TokenFailure,
    TokenRefusal,
    TokenUpdate,
    TokenValue,
    WorkerReport,
)
from proxy.migration.former import FormerSetting
from proxy.migration.outcome import ExchangeOutcome
from proxy.migration.pin import RetryPin
from proxy.migration.side import Policy, Side
from proxy.migration.side_settings import SideSettings
from proxy.secret import Secret
from proxy.settings.worker_values import FacadeValues
from tests.worker.values import snapshot

DIGEST = f"{1:016x}"
PIN = RetryPin(Side.LEGACY, "bank", 4e9, "payments")
POLICY = Policy(
    name="payments",
    sticky="caller",
    methods=frozenset({"POST"}),
    pinned={"erp": Side.MODERN},
    fallback=True,
    sides="adfs@ to login@",
)
SETTINGS = SideSettings(30, 2, ("erp",), (FormerSetting(0, "", 2.0, settled=True),), (POLICY,))
OUTCOME = ExchangeOutcome("payments", Side.MODERN, "erp", True, "ok", 200, False, 1.5, "pay")  # noqa: FBT003
SNAPSHOT = dataclasses.replace(
    snapshot(Path("/data"), 1),
    facade=FacadeValues(paths=("/token",), token_lifetime=60, signing_key_files=(), accepted_assertion_audiences=()),
)
COUNTS = Counts(
    (RequestCount("GET", "pay", 200, "yes", "", [1.0, 0.5]),),
    (SendCount("bank", 0, [1.0, 0.5]),),
    (OverheadCount("pay", [1.0, 0.5]),),
    (ReplayCount("login", "succeeded", 1.0),),
    (SignatureCount("pay", "overloaded", 2.0),),
)
ALL: list[Message] = [
    Serve(SNAPSHOT, "w0-1-1", 2, (3, 4)),
    Accept(),
    Drain(0.5, handed_over=True),
    MigrationStates({"payments": SETTINGS}, readable=True, serial=3),
    NewPins({DIGEST: PIN}, 3),
    ReplicaContact(12.5),
    ClaimCheck(DIGEST, PIN, 3),
    ClaimDropped(DIGEST),
    PinAnswer(1, kept=True),
    TokenUpdate("key", TokenValue(1, Secret("canary"), ("https://bank:443",), 1.0, 2.0, 3.0), None),
    TokenUpdate("key", None, TokenFailure("token_refused", "no", "because", 1.0)),
    TokenAsked("key", 7, 12.5),
    RefusalAnswer(1, "kept"),
    Ready(),
    WorkerReport(COUNTS, "", full=False, in_flight=1, connections=2, late=1, late_seconds=2.5, late_route="pay"),
    TokenRefusal(1, "key", 7, "pay", "pay shop GET /a/*", behind=False),
    TokenAccepted("key", 7, 12.5),
    Replayed("key", 4, "pay", refused_again=True, source="pay shop GET /a/*"),
    Outcomes((OUTCOME,)),
    PinRequest(1, DIGEST, PIN),
    PinRelease(DIGEST, PIN),
    ClaimRequest(1, DIGEST, PIN),
    SignatureRequest(1, "pay", f"{1:064x}", "erp"),
    SignatureAnswer(1, "c2lnbmVk", "thumbprint", ""),
    Acknowledged(3, agreed=False, pins={DIGEST: PIN}),
]


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    """With all its types, in one line."""
    line = encode(message)

    found = decode(line)

    assert (type(found), found) == (type(message), message)
    assert line.count(b"\n") == 1


def test_every_kind_is_among_those_tested() -> None:
    """A new one has to be added above."""
    assert {type(one) for one in ALL} == {*get_args(Message)}


def test_a_token_does_not_show_itself() -> None:
    """A message may stand in a stack trace; the link alone carries the value."""
    [message] = [one for one in ALL if isinstance(one, TokenUpdate) and one.token is not None]

    assert "canary" not in repr(message)
    assert b"canary" in encode(message)


@pytest.mark.parametrize(
    "line",
    [
        b'["Drain",1]',
        b'["Drain",1,true,2]',
        b'["Drain","1",true]',
        b'["Drain",-1,true]',
        b'["Drain",NaN,true]',
        b'["Drain",Infinity,true]',
        b'["Drain",1e999,true]',
        b'["Drain",1,1]',
        b'["PinAnswer",true,true]',
        b'["PinAnswer",1.0,true]',
        b'["ClaimDropped","x"]',
        b'["ClaimDropped",null]',
        b'["NewPins",[],0]',
        b'["NewPins",{"x":["legacy","bank",1,"",""]},0]',
        b'["NewPins",{"0000000000000001":["legacy","bank",1]},0]',
        b'["NewPins",{"0000000000000001":["legacy","",1,"","unknown"]},0]',
        b'["NewPins",{"0000000000000001":7},0]',
        b'["MigrationStates",{"payments":[1,2,[],[[1,"",2.0,1]],[]]},true,0]',
        b'["MigrationStates",{"payments":[1,2,[],[],[{}]]},true,0]',
        b'["TokenUpdate","key",[1,7,[],1,2,3],null]',
        b'["Outcomes","x"]',
        b'["Outcomes",[["payments"]]]',
        *(
            b'["WorkerReport",[[],[],[],%b],"",false,0,0]' % replays
            for replays in (
                b'{"a":1}',
                b'["a"]',
                b'[["a"]]',
                b'[["a","b","c",1]]',
                b'[["%b","b",1]]' % (b"a" * 301),
                b'[[null,"b",1]]',
                b'[[1,"b",1]]',
                b'[["a","b",[]]]',
                b'[["a","b","1"]]',
                b'[["a","b",-1]]',
                b'[["a","b",true]]',
                b'[["a","b",NaN]]',
                b'[["a","b",Infinity]]',
            )
        ),
        b'["WorkerReport",[[],[["bank",1000,[1]]],[],[]],"",false,0,0]',
        b'["WorkerReport",[[],[["bank",true,[1]]],[],[]],"",false,0,0]',
        b'["WorkerReport",[[],[["bank",200,[-1]]],[],[]],"",false,0,0]',
        b'["WorkerReport",[[],[["bank",200,1]],[],[]],"",false,0,0]',
        b'["WorkerReport",[],"",false,0,0]',
        b'["WorkerReport",{},"",false,0,0]',
    ],
    ids=repr,
)
def test_what_is_malformed_is_one_error(line: bytes) -> None:
    """It names the kind, and quotes nothing."""
    with pytest.raises(MessageInvalid, match=f"^a malformed {json.loads(line)[0]}$"):
        decode(line)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)


@given(message=st.sampled_from(ALL), at=st.integers(0, 3), value=_JSON)
def test_whatever_stands_in_a_field_is_understood_or_refused(message: Message, at: int, value: Any) -> None:
    """A worker parses strangers' bytes: nothing that it sends may break its keeper."""
    fields = json.loads(encode(message))
    fields[1 + at : 2 + at] = [value]
    try:
        found = decode(json.dumps(fields).encode())
    except MessageInvalid:
        return
    assert type(found) is type(message)
