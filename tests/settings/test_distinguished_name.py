import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.distinguished_name import canonical, name_of

VALUES = st.text(st.characters(codec="utf-8") | st.sampled_from(' #"+,;<=>\\\0'), min_size=1, max_size=12)
PARTS = st.lists(st.lists(st.tuples(st.sampled_from(["CN", "O", "OU"]), VALUES), min_size=1, max_size=2), min_size=1)


def test_two_subjects_are_told_apart() -> None:
    """The one has three parts, the other a name that looks like them; without escapes both had one text."""
    assert name_of([[("CN", "erp")], [("OU", "Payments")], [("O", "Acme")]]) == "CN=erp,OU=Payments,O=Acme"
    assert name_of([[("CN", "erp,OU=Payments,O=Acme")]]) == r"CN=erp\,OU=Payments\,O=Acme"
    assert name_of([[("CN", "erp"), ("OU", "Payments")], [("O", "Acme")]]) == "CN=erp+OU=Payments,O=Acme"


@given(PARTS)
def test_a_subject_has_one_text_and_that_text_one_subject(parts: list[list[tuple[str, str]]]) -> None:
    """What is read back is what was written, so that no other subject has the same text."""
    text = name_of(parts)

    assert canonical(text) == text
    assert text.count("\\") >= sum(value.count(",") for part in parts for _, value in part)


@given(st.lists(st.tuples(st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME]), VALUES), min_size=1))
def test_what_other_programs_write_is_read(given: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    """As cryptography's rfc4514_string, which escapes more than it must."""
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in given])
    short = {NameOID.COMMON_NAME: "CN", NameOID.ORGANIZATION_NAME: "O"}

    assert canonical(name.rfc4514_string()) == name_of([(short[oid], value)] for oid, value in reversed(given))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("CN=erp, O=Acme", "CN=erp,O=Acme"),
        ("cn = erp ,commonName=x", "CN=erp,CN=x"),
        (r"CN=erp,O=Acme\, Inc.", r"CN=erp,O=Acme\, Inc."),
        (r"CN=erp,O=Acme\2C Inc.", r"CN=erp,O=Acme\, Inc."),
        (r"CN=Z\C3\BCrich", "CN=Zürich"),
        (r"CN=\ a\ ", r"CN=\ a\ "),
        ("OU=b+CN=a", "CN=a+OU=b"),
        ("1.2.840.113549.1.9.1=a@b.c", "emailAddress=a@b.c"),
    ],
)
def test_how_people_write_it(written: str, text: str) -> None:
    """Blanks around parts, other names of types and other escapes say the same."""
    assert canonical(written) == text


@pytest.mark.parametrize(
    "written", ["erp", "CN=erp,O=Acme, Inc.", "CN=a;O=b", 'CN="a"', "CN=#04024869", "CN=a,", "CN=a\\"]
)
def test_what_is_no_subject(written: str) -> None:
    """Nobody guesses where a name ends."""
    with pytest.raises(ValueError, match=r"is not|has a"):
        canonical(written)
