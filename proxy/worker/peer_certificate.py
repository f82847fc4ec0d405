"""Formats a certificate's subject as the configuration spells it."""

from typing import Any

from proxy.settings.distinguished_name import name_of


def peer_subject(certificate: dict[str, Any]) -> str:
    """Return the subject of what `ssl` calls a peercert, most specific part first (RFC 4514): CN=erp,O=Acme,C=US."""
    return name_of(reversed(certificate.get("subject", ())))
