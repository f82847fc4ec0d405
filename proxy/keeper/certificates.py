"""Lists the certificates in use with their expiry, for metrics and pages."""

from pathlib import Path

from proxy.credentials.body_signer import keys_for_bodies
from proxy.credentials.keys import KeyUnusable, load_certificate
from proxy.settings.model import Settings
from proxy.telemetry.status import CertificateStatus


def certificates_in_use(settings: Settings) -> tuple[CertificateStatus, ...]:
    """Return the status of every certificate in *settings*; skip unreadable ones, which the checks report."""
    named = [
        ("server", "server", settings.server.certificate_file),
        ("admin", "admin", settings.admin.certificate_file),
        *((name, "credential", one.certificate_file) for name, one in settings.credentials.items()),
        *((name, "token_endpoint", one.client_certificate_file) for name, one in settings.credentials.items()),
        *(
            (", ".join(names), "signature", one.certificate_file)
            for names, one in keys_for_bodies(settings.routes).items()
        ),
        *((name, "upstream", one.client_certificate_file) for name, one in settings.upstreams.items()),
    ]
    found = []
    for name, use, file in named:
        if not file:
            continue
        try:
            certificate = load_certificate(Path(file))
        except KeyUnusable:
            continue
        found.append(
            CertificateStatus(
                name=name,
                use=use,
                subject=certificate.subject.rfc4514_string(),
                expires=certificate.not_valid_after_utc.timestamp(),
            )
        )
    return tuple(found)
