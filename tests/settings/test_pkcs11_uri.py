import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.pkcs11_uri import EXAMPLE, Pkcs11Uri, Pkcs11UriInvalid

MODULE = "?module-path=/usr/lib/m.so"


def test_all_parts() -> None:
    """As RFC 7512 writes them, with %-escapes in each."""
    uri = Pkcs11Uri.parse(
        "pkcs11:token=My%20token;serial=0f;object=oauth%3B;id=%01%ff;type=private"
        "?module-path=/usr/lib/m%2Bn.so&pin-source=file:/etc/pin"
    )

    assert uri == Pkcs11Uri(
        module="/usr/lib/m+n.so",
        token="My token",
        serial="0f",
        label="oauth;",
        key_id=b"\x01\xff",
        pin_file="/etc/pin",
    )
    assert str(uri) == 'token "My token", key "oauth;", key id 01ff'
    assert Pkcs11Uri.parse(EXAMPLE).label == "oauth"


def test_what_else_the_token_must_be() -> None:
    """Maker, model, library and slot are compared with what the module says (RFC 7512 2.3)."""
    uri = Pkcs11Uri.parse(f"pkcs11:token=t;model=SoftHSM%20v2;slot-id=7;object=o{MODULE}")

    assert uri.token_attributes == {"token": "t", "model": "SoftHSM v2", "slot-id": "7"}
    assert uri.identity == Pkcs11Uri.parse(f"pkcs11:token=t;object=o{MODULE}").identity


def test_what_names_the_key_does_not_depend_on_the_machine() -> None:
    """The module's path and the PIN's file may differ from replica to replica."""
    one = Pkcs11Uri.parse("pkcs11:token=t;object=o?module-path=/a.so&pin-source=/pin")
    other = Pkcs11Uri.parse("pkcs11:object=o;token=t?module-path=/b.so")

    assert one.identity == other.identity
    assert one.identity != Pkcs11Uri.parse(f"pkcs11:token=t;object=p{MODULE}").identity


@pytest.mark.parametrize("source", ["file:/etc/pin", "file:///etc/pin", "/etc/pin", "%2Fetc/pin"])
def test_the_forms_of_a_pin_source(source: str) -> None:
    """RFC 7512 2.4 allows a URI or a path."""
    assert Pkcs11Uri.parse(f"pkcs11:token=t;object=o{MODULE}&pin-source={source}").pin_file == "/etc/pin"


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("oauth.key", "does not begin with pkcs11:", EXAMPLE),
        (f"pkcs11:object=o{MODULE}", "names no token", "add token=LABEL"),
        (f"pkcs11:token=t{MODULE}", "names no key", "add object=LABEL or id=%01"),
        ("pkcs11:token=t;object=o", "names no module", "add ?module-path=/"),
        ("pkcs11:token=t;object=o?module-path=m.so", "names no module", "the absolute path"),
        (f"pkcs11:token=t;object=o;type=public{MODULE}", "another object than a private key", "type=private"),
        (f"pkcs11:token=t;object=o{MODULE}&pin-value=4711", "holds a PIN", "pin-source=file:/PATH or private_key_pin"),
        (f"pkcs11:token=t;object=o{MODULE}&pin-source=|askpass", "no absolute path", "pin-source=file:/PATH"),
        (f"pkcs11:token=t;object=o{MODULE}&pin-source=file:pin", "no absolute path", "pin-source=file:/PATH"),
        (f"pkcs11:token=t;object=o{MODULE}&pin-source=file://host/pin", "no absolute path", "pin-source=file:/PATH"),
        (
            f"pkcs11:token=t;object=o;x-speed=1{MODULE}",
            "the attribute x-speed, which is not known here",
            "use only token,",
        ),
        (
            f"pkcs11:token=t;object=o{MODULE}&module-name=m",
            "the attribute module-name, which",
            "behind ? module-path and",
        ),
        (f"pkcs11:token=t;object=o;4711=1{MODULE}", "an attribute that is not known here", "use only token, serial,"),
        (f"pkcs11:token=t;object=o;geheim{MODULE}", "an attribute that is not known here", "use only token, serial,"),
        (f"pkcs11:token=t;token=u;object=o{MODULE}", "two values or a stray % at token", EXAMPLE),
        (f"pkcs11:token=t;object=%zz{MODULE}", "a stray % at object", EXAMPLE),
        (f"pkcs11:token=t;object={MODULE}", "no value", EXAMPLE),
        (f"pkcs11:token=t;object=%00{MODULE}", "other bytes than printable UTF-8 at object", EXAMPLE),
        (f"pkcs11:token=%ff;object=o{MODULE}", "other bytes than printable UTF-8 at token", EXAMPLE),
    ],
)
def test_what_is_refused(text: str, what: str, fix: str) -> None:
    """With the way out, and without a word of the URI, which may hold a PIN."""
    with pytest.raises(Pkcs11UriInvalid) as refused:
        Pkcs11Uri.parse(text)

    assert what in str(refused.value)
    assert fix in refused.value.fix
    assert "4711" not in str(refused.value) + refused.value.fix
    assert "geheim" not in str(refused.value) + refused.value.fix


@given(st.text(st.sampled_from("pkcs11:;=?&%af0/tokenobject"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(Pkcs11UriInvalid):
        Pkcs11Uri.parse(f"pkcs11:{text}")
