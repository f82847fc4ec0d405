"""Finds the certificate and the form of a thumbprint that the bank shows, in any spelling."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from proxy.credentials.keys import THUMBPRINT_FORMS, thumbprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A thumbprint and its certificate's *name*; *form* is "" if none matches, *exact* if spelled as in the form."""

    text: str
    name: str = ""
    form: str = ""
    exact: bool = False


def recognise(text: str, certificates: Mapping[str, x509.Certificate]) -> Recognised:
    """Return which of the named *certificates* has the thumbprint *text*, also in another spelling."""
    wanted = text.strip()
    prints = [
        (name, form, thumbprint(certificate, form))
        for name, certificate in certificates.items()
        for form in THUMBPRINT_FORMS
    ]
    for name, form, value in prints:
        if value == wanted:
            return Recognised(text=wanted, name=name, form=form, exact=True)
    for name, form, value in prints:
        if _plain(wanted, form=form) == _plain(value, form=form):
            return Recognised(text=wanted, name=name, form=form)
    return Recognised(text=wanted)


def _plain(text: str, *, form: str) -> str:
    """Return *text* without the parts in which spellings of the same digest differ."""
    if form.endswith("-hex"):
        return re.sub(r"[\s:.-]", "", text).upper().removeprefix("0X")
    return text.rstrip("=").replace("+", "-").replace("/", "_")
