"""Who a request comes from."""

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.callers.caller import ANONYMOUS, Callers, Proofs, key_in_basic, parse_address
from proxy.errors import CallerUnauthenticated
from proxy.settings.worker_values import CallerValues


def values(name: str, **changes: Any) -> CallerValues:
    """Return a caller without any proof but *changes*."""
    blank: dict[str, Any] = {
        "networks": (), "api_key_sha256": (), "certificate_subject": "", "max_requests_per_second": 0.0,
    }  # fmt: skip
    return CallerValues(name=name, **{**blank, **changes})


def proofs(address: str = "10.1.2.3", *keys: bytes, subject: str = "", absolute: bool = False) -> Proofs:
    """Return what a request brings."""
    return Proofs(address=address, keys=keys, certificate_subject=subject, absolute_form=absolute)


def sha(key: bytes) -> str:
    """Return the configured form of *key*."""
    return hashlib.sha256(key).hexdigest()


def test_without_callers_everyone_is_anonymous() -> None:
    """Whatever is brought."""
    assert Callers(()).identify(proofs("unix", b"k")) is ANONYMOUS


def test_every_configured_proof_must_hold() -> None:
    """Network and key and certificate; the record says by what."""
    callers = Callers(
        [values("erp", networks=("10.0.0.0/8",), api_key_sha256=(sha(b"k"), sha(b"l")), certificate_subject="CN=erp")]
    )
    caller = callers.identify(proofs("10.1.2.3", b"x", b"l", subject="CN=erp"))
    assert (caller.name, caller.proof) == ("erp", "network+key+certificate")
    for bad in (
        proofs("11.1.2.3", b"k", subject="CN=erp"),
        proofs("10.1.2.3", b"m", subject="CN=erp"),
        proofs("10.1.2.3", subject="CN=erp"),
        proofs("10.1.2.3", b"k", subject="CN=other"),
        proofs("10.1.2.3", b"k"),
        proofs("unix", b"k", subject="CN=erp"),
        proofs("", b"k", subject="CN=erp"),
    ):
        with pytest.raises(CallerUnauthenticated) as caught:
            callers.identify(bad)
        assert caught.value.status == 403


def test_a_caller_of_the_facade_is_nobody_without_its_key_or_token() -> None:
    """Whatever else it is known by, and above all where nothing else is: then everyone would be it."""
    callers = Callers(
        [
            values("alone", facade_client_id="CC-1"),
            values("near", facade_client_id="CC-2", networks=("10.0.0.0/8",)),
            values("both", facade_client_id="CC-3", api_key_sha256=(sha(b"k"),)),
            values("old", networks=("10.0.0.0/8",)),
        ]
    )

    assert callers.identify(proofs("10.1.2.3")).name == "old"
    assert callers.identify(proofs("10.1.2.3", b"k")).name == "both"
    with pytest.raises(CallerUnauthenticated):
        callers.identify(proofs("11.1.2.3"))


def test_a_token_stands_in_for_the_key_and_for_nothing_else() -> None:
    """Network and certificate must hold all the same, and no other caller is taken in its place."""
    callers = Callers(
        [
            values(
                "erp", facade_client_id="CC-1", networks=("10.0.0.0/8",), certificate_subject="CN=erp",
                api_key_sha256=(sha(b"k"),), max_requests_per_second=5.0,
            ),
            values("office", networks=("11.0.0.0/8",)),
        ]
    )  # fmt: skip

    caller = callers.confirm("erp", proofs("10.1.2.3", subject="CN=erp"), stand_in="token")
    assert (caller.name, caller.proof, caller.rate) == ("erp", "network+token+certificate", 5.0)
    for bad in (proofs("11.1.2.3", subject="CN=erp"), proofs("10.1.2.3", subject="CN=x"), proofs("10.1.2.3", b"k")):
        with pytest.raises(CallerUnauthenticated) as caught:
            callers.confirm("erp", bad, stand_in="token")
        assert caught.value.status == 403
    with pytest.raises(CallerUnauthenticated) as caught:
        callers.confirm("gone", proofs(absolute=True), stand_in="token")
    assert caught.value.status == 407


def test_through_a_proxy_setting_it_is_407() -> None:
    """The status that clients of a proxy understand."""
    with pytest.raises(CallerUnauthenticated) as caught:
        Callers([values("erp", networks=("10.0.0.0/8",))]).identify(proofs("11.0.0.1", absolute=True))
    assert caught.value.status == 407


def test_the_more_specific_caller_wins() -> None:
    """A key counts more than a network, a longer prefix more than a shorter one; the order does not matter."""
    wide, narrow = values("wide", networks=("10.0.0.0/8",)), values("narrow", networks=("10.1.0.0/16", "1.0.0.0/8"))
    keyed = values("keyed", networks=("10.0.0.0/8",), api_key_sha256=(sha(b"k"),))
    for order in ((wide, narrow, keyed), (keyed, narrow, wide)):
        callers = Callers(order)
        assert callers.identify(proofs("10.2.0.1")).name == "wide"
        assert callers.identify(proofs("10.1.0.1")).name == "narrow"
        assert callers.identify(proofs("10.1.0.1", b"k")).name == "keyed"


def test_two_equally_specific_callers_are_nobody() -> None:
    """The cause names them, the caller's detail does not."""
    callers = Callers([values("a", networks=("10.0.0.0/8",)), values("b", networks=("10.0.0.0/8",))])
    with pytest.raises(CallerUnauthenticated) as caught:
        callers.identify(proofs())
    assert caught.value.cause == "callers a, b"
    assert "a, b" not in caught.value.detail


def test_versions_of_ip_are_kept_apart_but_mapped_ones() -> None:
    """An IPv4-mapped address is the IPv4 one."""
    callers = Callers([values("v4", networks=("10.0.0.0/8",)), values("v6", networks=("fd00::/8",))])
    assert callers.identify(proofs("::ffff:10.0.0.1")).name == "v4"
    assert callers.identify(proofs("fd00::1")).name == "v6"
    with pytest.raises(CallerUnauthenticated):
        callers.identify(proofs("fe80::1"))


def test_a_scan_does_not_fill_the_memory() -> None:
    """Addresses are remembered in bounds."""
    callers = Callers([values("erp", networks=("0.0.0.0/0",))])
    for number in range(5000):
        callers.identify(proofs(f"10.0.{number // 256}.{number % 256}"))
    assert len(callers._by_address) <= 4096


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_the_password_of_a_basic_credential_is_a_key(user: bytes, password: bytes) -> None:
    """Up to the first colon is the user; the scheme in any case."""
    user = user.replace(b":", b"")
    assert key_in_basic(b"bAsIc " + base64.b64encode(user + b":" + password)) == password


@given(st.binary(max_size=30))
def test_any_other_credential_has_no_key(value: bytes) -> None:
    """Nothing is raised, whatever comes."""
    assert key_in_basic(b"Bearer " + value) is None
    found = key_in_basic(b"Basic " + value)
    assert found is None or isinstance(found, bytes)


@pytest.mark.parametrize("text", ["", "unix", "10.1", "300.1.1.1", "::1%lo0x", "10.0.0.1/8", "a.example"])
def test_what_is_no_address_is_none(text: str) -> None:
    """A Unix socket's peer has none, nor has a forged one."""
    address = parse_address(text)
    assert address is None or "%" in text
