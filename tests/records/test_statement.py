import re
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy.records.checkpoint_key import CheckpointKey
from proxy.records.statement import StatementInvalid, signed_page, signed_text, statement_in
from tests.credentials.support_keys import openssl

KEY = CheckpointKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER = CheckpointKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
FACTS = {"subject": "why mine", "time": "2027-01-15T08:00:00Z"}
TEXT = signed_text("It was sent once.\n\nThe bank has it: ä.", facts=FACTS, key=KEY)
PAGE = signed_page('<p>x</p><pre id="statement"></pre><p>y</p>', "three & < callers", facts=FACTS, key=KEY)


def test_what_was_signed_is_valid() -> None:
    """It is the text with its head; the key is the one that it names."""
    found = statement_in(TEXT.encode())

    assert found.public_key == KEY.public
    assert "subject: why mine\n" in found.text
    assert "The bank has it: ä." in found.text
    assert statement_in(TEXT.replace("\n", "\r\n").encode()) == found


def test_a_page_is_signed_as_a_whole() -> None:
    """Its statement has the hash of all the rest, and what it says is escaped."""
    assert "three & < callers" in statement_in(PAGE.encode()).text
    assert "three &amp; &lt; callers" in PAGE


@pytest.mark.parametrize("old", ["once", "why mine", "2027", "public_key", "signature", "payproxy", ": ä."])
def test_a_changed_text_is_not_valid(old: str) -> None:
    """In any of its parts."""
    with pytest.raises(StatementInvalid):
        statement_in(TEXT.replace(old, old[::-1]).encode())


@pytest.mark.parametrize("old", ["<p>x</p>", "<p>y</p>", "three", "page_sha256", "</pre>"])
def test_a_changed_page_is_not_valid(old: str) -> None:
    """Before, in and after the statement."""
    with pytest.raises(StatementInvalid):
        statement_in(PAGE.replace(old, "<p>z</p>").encode())


def test_a_second_statement_is_no_way_around() -> None:
    """Neither a page with two, nor the statement of another page."""
    other = signed_page('<p>other</p><pre id="statement"></pre>', "x", facts=FACTS, key=KEY)
    block = re.findall("<pre.*?</pre>", other, re.DOTALL)[0]

    for page in (PAGE + block, block + PAGE, re.sub("<pre.*?</pre>", block, PAGE, flags=re.DOTALL)):
        with pytest.raises(StatementInvalid):
            statement_in(page.encode())


@pytest.mark.parametrize(
    "document", [b"", b"x", b"\xff", b"payproxy statement 1", b"signature: x", TEXT.encode()[:-20]]
)
def test_what_is_no_statement_says_so(document: bytes) -> None:
    """Also one that was cut off."""
    with pytest.raises(StatementInvalid):
        statement_in(document)


def test_a_line_break_in_a_fact_makes_no_new_line() -> None:
    """An argument of the command can't forge the head."""
    text = signed_text("x", facts={"subject": "why a\ninstance: other"}, key=OTHER)

    assert "\ninstance" not in text
    assert statement_in(text.encode()).public_key == OTHER.public


def test_openssl_can_check_it(tmp_path: Path) -> None:
    """For an auditor without payproxy: the last line signs all lines before it."""
    signed, signature = TEXT.encode().rstrip(b"\n").rsplit(b"\n", 1)
    (tmp_path / "signed").write_bytes(signed + b"\n")
    (tmp_path / "signature").write_bytes(b64decode(signature.removeprefix(b"signature: ")))
    public = Ed25519PublicKey.from_public_bytes(b64decode(KEY.public))
    (tmp_path / "key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    files = ("-inkey", tmp_path / "key.pem", "-in", tmp_path / "signed", "-sigfile", tmp_path / "signature")

    assert "Signature Verified Successfully" in openssl("pkeyutl", "-verify", "-pubin", "-rawin", *files)
