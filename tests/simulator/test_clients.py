import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.simulator.clients import Client, Clients, Flavor, certificates_by_kid, thumbprint
from tests.simulator.support import Identity, identity


def test_thumbprints_have_four_forms(who: Identity) -> None:
    """Each form is the digest of the DER certificate in its own spelling."""
    der = who.certificate.public_bytes(Encoding.DER)

    assert thumbprint(who.certificate, "sha1-hex") == hashlib.sha1(der).hexdigest().upper()  # noqa: S324 - as above
    assert thumbprint(who.certificate, "sha256-hex") == hashlib.sha256(der).hexdigest().upper()
    short = base64.urlsafe_b64decode(thumbprint(who.certificate, "x5t") + "=")
    assert short == hashlib.sha1(der).digest()  # noqa: S324 - RFC 7515 4.1.7
    assert base64.urlsafe_b64decode(thumbprint(who.certificate, "x5t#S256") + "=") == hashlib.sha256(der).digest()
    with pytest.raises(ValueError, match="md5"):
        thumbprint(who.certificate, "md5")


def test_a_second_certificate_joins_the_first(who: Identity) -> None:
    """Rotation: both keys work until the old one is taken away."""
    other = identity(key=who.key)
    clients = Clients()
    clients.add(Client(client_id="c", flavor=Flavor.ADFS, certificates=certificates_by_kid(who.pem, ["sha1-hex"])))

    clients.add_certificate(Flavor.ADFS, "c", other.pem, kid_forms=["x5t"])

    client = clients.get(Flavor.ADFS, "c")
    assert client is not None
    assert set(client.certificates) == {who.kid, thumbprint(other.certificate, "x5t")}


def test_a_sixth_certificate_is_refused(who: Identity) -> None:
    """The bank takes five."""
    pem = b"".join(identity(key=who.key).pem for _ in range(6))

    with pytest.raises(ValueError, match="five"):
        Clients().add(Client(client_id="c", flavor=Flavor.MODERN, certificates=certificates_by_kid(pem, ["sha1-hex"])))


def test_a_secret_is_not_shown() -> None:
    """The repr of a client doesn't hold its secret."""
    assert "hush" not in repr(Client(client_id="c", flavor=Flavor.MOCK, secret="hush"))


def test_an_audience_is_known_per_endpoint() -> None:
    """An audience granted at one endpoint is unknown at another."""
    clients = Clients()
    clients.add(Client(client_id="c", flavor=Flavor.MODERN, audiences=frozenset({"a"})))

    assert clients.knows_audience(Flavor.MODERN, "a")
    assert not clients.knows_audience(Flavor.ADFS, "a")
    assert clients.get(Flavor.ADFS, "c") is None
