from pathlib import Path

import pytest

from proxy.credentials.inspection import Recognised, recognise
from proxy.credentials.keys import THUMBPRINT_FORMS, load_certificate, thumbprint
from tests.credentials.support_keys import make_pair


def test_each_certificate_and_form_is_told_apart(tmp_path: Path) -> None:
    """A thumbprint names its certificate among several and the form it has, exactly or in another spelling."""
    certificates = {name: load_certificate(make_pair(tmp_path, name=name)[1]) for name in ("one", "two")}
    for name, certificate in certificates.items():
        for form in THUMBPRINT_FORMS:
            text = thumbprint(certificate, form)
            assert recognise(text, certificates) == Recognised(text=text, name=name, form=form, exact=True)
            other = f"0x{text.lower()}" if form.endswith("hex") else f"{text.replace('-', '+').replace('_', '/')}="
            assert recognise(f" {other}\n", certificates) == Recognised(text=other, name=name, form=form)


@pytest.mark.parametrize("text", ["", "ab", "=", ":"])
def test_nothing_matches_nothing(tmp_path: Path, text: str) -> None:
    """Text that is no thumbprint is nobody's, nor is anything among no certificates."""
    certificate = load_certificate(make_pair(tmp_path)[1])
    assert recognise(text, {"one": certificate}).form == ""
    assert recognise(thumbprint(certificate, "x5t"), {}).form == ""
