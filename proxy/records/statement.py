"""Statements for auditors: a text, or a page of HTML, signed with the key that signs the log's checkpoints.

The signed bytes of a text are all before its last line, so that openssl can check it too. A page has its statement in
`<pre id="statement">`; what is signed there has the SHA-256 of the page without the statement.
"""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from proxy.records.checkpoint_key import CheckpointKey, is_signed

_FIRST = "payproxy statement 1"
_PAGE = re.compile(rb'(<pre id="statement">)(.*?)(</pre>)', re.DOTALL)
_PAGE_HASH = "page_sha256"
_KEY = re.compile(r"^public_key: (\S+)$", re.MULTILINE)
_HASH = re.compile(rf"^{_PAGE_HASH}: ([0-9a-f]{{64}})$", re.MULTILINE)
_SIGNATURE = "signature: "


class StatementInvalid(Exception):
    """A document holds no statement, or not what was signed; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement whose signature is valid for *public_key*, the key that it names itself."""

    text: str
    public_key: str


def signed_text(text: str, *, facts: Mapping[str, str], key: CheckpointKey) -> str:
    """Return *text* below *facts* (names and values on one line each), signed with *key*."""
    head = "\n".join([_FIRST, *(f"{name}: {' '.join(value.split())}" for name, value in facts.items())])
    signed = f"{head}\n\n{text.strip()}\n\npublic_key: {key.public}\n"
    return f"{signed}{_SIGNATURE}{key.sign_bytes(signed.encode())}\n"


def signed_page(page: str, text: str, *, facts: Mapping[str, str], key: CheckpointKey) -> str:
    """Return the HTML *page* with *text* and the page's hash signed in its `<pre id="statement">`, which is empty."""
    before, opening, _, closing, after = _parts(page.encode())
    facts = {**facts, _PAGE_HASH: sha256(before + opening + closing + after).hexdigest()}
    inside = html.escape(signed_text(text, facts=facts, key=key))
    return (before + opening + inside.encode() + closing + after).decode()


def statement_in(document: bytes) -> Statement:
    """Return the statement in *document*, a signed text or page; raises StatementInvalid."""
    page = _PAGE.search(document)
    try:
        text = html.unescape(page[2].decode()) if page else document.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise StatementInvalid("it is no text in UTF-8") from None
    signed, found, signature = text.rstrip("\n").rpartition(_SIGNATURE)
    key = _KEY.findall(signed)
    if not (text.startswith(_FIRST + "\n") and found and signed.endswith("\n") and key):
        raise StatementInvalid(f'it holds no statement: "{_FIRST}" is its first line, and "{_SIGNATURE}..." its last')
    if not is_signed(signed.encode(), public_key=key[-1], signature=signature.strip()):
        raise StatementInvalid("the signature is not valid: the statement was changed, or is not whole")
    if page:
        before, opening, _, closing, after = _parts(document)
        if _HASH.findall(signed) != [sha256(before + opening + closing + after).hexdigest()]:
            raise StatementInvalid("the page around the statement is not the one that was signed")
    return Statement(text=signed, public_key=key[-1])


def _parts(page: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Return *page* in five parts: before, and the statement with its tags, and after."""
    found = _PAGE.search(page)
    if found is None or _PAGE.search(page, found.end()):
        raise StatementInvalid("the page has no place for a statement, or more than one")
    return page[: found.start()], found[1], found[2], found[3], page[found.end() :]
