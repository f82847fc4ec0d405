import pytest

from proxy.settings.scrypt import HashUnusable, make, parse, verify

# RFC 7914 section 12: scrypt("pleaseletmein", "SodiumChloride", N=16384, r=8, p=1), its first 32 bytes.
RFC = "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofI"


def test_a_hash_is_that_of_its_password_only() -> None:
    """With its own salt, which another hash of the same password does not share."""
    made = make("secret", b"0123456789abcdef")

    assert verify("secret", made)
    assert not verify("Secret", made)
    assert made != make("secret", b"fedcba9876543210")


@pytest.mark.parametrize("text", [RFC, RFC.replace("+", "."), RFC + "="])
def test_others_hashes_are_understood(text: str) -> None:
    """Those of passlib have a dot for a plus, others are padded."""
    assert verify("pleaseletmein", text)
    assert not verify("pleaseletmeout", text)


@pytest.mark.parametrize(
    "parameters",
    ["ln=17,r=8,p=1", "ln=99,r=8,p=1", "ln=15,r=999,p=1", "ln=10,r=8,p=999", "ln=0,r=8,p=1", "ln=15,r=0,p=1"],
)
def test_a_hash_that_takes_all_memory_is_refused(parameters: str) -> None:
    """Before anything is computed: each sign-in would take it from the keeper."""
    with pytest.raises(HashUnusable):
        parse(RFC.replace("ln=14,r=8,p=1", parameters))


@pytest.mark.parametrize("parameters", ["ln=16,r=1,p=1", "ln=18,r=1,p=1"])
def test_a_hash_that_can_not_be_computed_is_refused(parameters: str) -> None:
    """When the configuration is read: later each sign-in of that operator would fail without a reason."""
    with pytest.raises(HashUnusable, match="block size"):
        parse(RFC.replace("ln=14,r=8,p=1", parameters))


def test_the_largest_cost_of_a_block_size_can_be_computed() -> None:
    """So that no hash is refused without need."""
    assert not verify("secret", RFC.replace("ln=14,r=8,p=1", "ln=15,r=1,p=1"))
