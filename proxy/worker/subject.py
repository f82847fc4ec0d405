"""A certificate's subject as the configuration spells it."""

from typing import Any

_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
}


def subject_of(certificate: dict[str, Any]) -> str:
    """Return the subject of what `ssl` calls a peercert, most specific part first (RFC 4514): CN=erp,O=Acme,C=US."""
    parts = [f"{_SHORT.get(name, name)}={value}" for rdn in certificate.get("subject", ()) for name, value in rdn]
    return ",".join(reversed(parts))
