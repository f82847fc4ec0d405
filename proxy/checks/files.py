"""Checks the files that a configuration names: existence, permissions, matching pairs, expiry."""

import os
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.callers.bearer import FEWEST_KEY_BYTES
from proxy.checks.caller_keys import assertion_key
from proxy.credentials.credential import secret_of
from proxy.credentials.keys import KeyUnusable, belong_together, holds_no_key, load_certificate, load_private_key
from proxy.migration.stores import encryption
from proxy.private_file import FileUnusable, directory_exposed, read_file, read_key, read_private_file
from proxy.records.body_hmac import read_body_key
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.database import DatabaseUrl
from proxy.settings.findings import Complaint, Key, Severity
from proxy.settings.masked_url import MaskedUrl, UrlUnusable
from proxy.settings.model import Settings
from proxy.settings.placeholder import is_placeholder
from proxy.settings.route_rules import database_server
from proxy.settings.secret_text import doubtful, not_a_secret
from proxy.settings.section import Section
from proxy.settings.state import StateSection, StateUrl

# The bank needs the next certificate before this one expires, and its approval takes days.
EXPIRY_WARNING_SECONDS = 30 * 86400

# The public web's CA bundle has 0.2 MB.
_MAX_AUTHORITIES_BYTES = 4 * 1024 * 1024

_Url = TypeVar("_Url", bound=MaskedUrl)


@dataclass(slots=True, kw_only=True)
class CheckedFiles:
    """The result; *keys* and *certificates* are the readable ones, for comparing environments."""

    complaints: list[Complaint] = field(default_factory=list)
    keys: dict[Key, RSAPrivateKey] = field(default_factory=dict)
    certificates: dict[Key, x509.Certificate] = field(default_factory=dict)


def check_settings_files(settings: Settings, *, now: float) -> CheckedFiles:
    """Check every file that *settings* names; *now* is in epoch seconds. Never raises, sends nothing."""
    return _Files(now).check(settings)


class _Files:
    def __init__(self, now: float) -> None:
        self._now = now
        self._checked = CheckedFiles()

    def check(self, settings: Settings) -> CheckedFiles:
        self._data_directory(Path(settings.data_directory))
        for listener in ("server", "admin"):
            section: Section = getattr(settings, listener)
            self._tls_pair((listener,), section, "", own=True)
        self._authorities(("server", "client_ca_file"), settings.server.client_ca_file)
        clients = [(("upstreams", name), one) for name, one in settings.upstreams.items()]
        for key, client in [*clients, *((("credentials", name), one) for name, one in settings.credentials.items())]:
            self._tls_pair(key, client, "client_", own=False)
            self._authorities((*key, "ca_file"), getattr(client, "ca_file", ""))
        for name, credential in settings.credentials.items():
            self._credential(("credentials", name), credential)
        self._key_files(("request_log", "body_hmac_key_file"), [settings.request_log.body_hmac_key_file], read_body_key)
        self._database(settings.request_log.database_file)
        for name, caller in settings.callers.items():
            self._assertion_keys(("callers", name, "assertion_certificate_files"), caller.assertion_certificate_files)
        self._key_files(("facade", "signing_key_files"), settings.facade.signing_key_files, _facade_key)
        self._state(settings.state)
        return self._checked

    def _data_directory(self, path: Path) -> None:
        fault = directory_exposed(path, us=os.geteuid())
        if fault is not None:
            self._complain(("data_directory",), fault.what, fault.fix)

    def _database(self, file: str) -> None:
        key: Key = ("request_log", "database_file")
        url = self._url(key, file, DatabaseUrl)
        if url is not None:
            self._checked.complaints += database_server(key, url)

    def _url(self, key: Key, file: str, kind: type[_Url]) -> _Url | None:
        if not _named(file):
            return None
        try:
            return kind.read(Path(file))
        except UrlUnusable as error:
            what, _, fix = str(error).partition("; ")
            self._complain(key, what, fix)
            return None

    def _assertion_keys(self, key: Key, files: Iterable[str]) -> None:
        for file in filter(_named, files):
            try:
                assertion_key(Path(file))
            except KeyUnusable as error:
                self._unusable(key, error)

    def _key_files(self, key: Key, files: Iterable[str], read: Callable[[Path], bytes]) -> None:
        for file in filter(_named, files):
            try:
                read(Path(file))
            except FileUnusable as error:
                self._complain(key, f"{file} can't be used: {error.what}", error.fix)

    def _state(self, state: StateSection) -> None:
        self._authorities(("state", "ca_file"), state.ca_file)
        self._key_files(("state", "encryption_key_files"), state.encryption_key_files, encryption.read_key)
        self._url(("state", "url_file"), state.url_file, StateUrl)

    def _credential(self, key: Key, credential: CredentialSection) -> None:
        if credential.client_secret is None:
            secret = self._secret((*key, "client_secret_file"), credential.client_secret_file)
            self._doubt((*key, "client_secret_file"), secret)
        elif self._is_secret((*key, "client_secret"), credential.client_secret.reveal()):
            self._doubt((*key, "client_secret"), credential.client_secret)
        passphrase = self._secret((*key, "private_key_passphrase_file"), credential.private_key_passphrase_file)
        if passphrase is None and credential.private_key_passphrase_file:
            return  # the key can't be checked without it
        private_key = certificate = None
        if _named(credential.private_key_file):
            try:
                private_key = load_private_key(Path(credential.private_key_file), passphrase=passphrase)
                self._checked.keys[*key, "private_key_file"] = private_key
            except KeyUnusable as error:
                self._unusable((*key, "private_key_file"), error)
        if _named(credential.certificate_file):
            certificate = self._certificate((*key, "certificate_file"), credential.certificate_file, passphrase)
        if private_key is not None and certificate is not None and not belong_together(private_key, certificate):
            self._complain(
                (*key, "certificate_file"),
                "the certificate belongs to another key than private_key_file",
                "name the two files that were made together; `payproxy keys inspect FILE...` shows them",
            )

    def _tls_pair(self, key: Key, section: Section, prefix: str, *, own: bool) -> None:
        """Check a TLS identity by loading it with OpenSSL, which reads it later (any kind of key is allowed)."""
        certificate_key, private_key = (*key, f"{prefix}certificate_file"), (*key, f"{prefix}key_file")
        certificate_file, key_file = (str(getattr(section, str(one[-1]))) for one in (certificate_key, private_key))
        readable = not key_file or self._private(private_key, key_file) is not None
        if _named(certificate_file):
            readable &= self._certificate(certificate_key, certificate_file, None, own=own) is not None
        if not (readable and _named(certificate_file) and _named(key_file)):
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if own else ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_cert_chain(certificate_file, key_file, password=lambda: "")
        except ssl.SSLError as error:
            mismatch = error.reason == "KEY_VALUES_MISMATCH"
            if held := holds_no_key(Path(key_file)):
                fix = f"name the file of the key that belongs to {prefix}certificate_file"
                self._complain(private_key, f"holds {held}, not a private key", fix)
                return
            self._complain(
                private_key,
                f"the key does not belong to {prefix}certificate_file"
                if mismatch
                else "is no usable, unencrypted PEM key",
                "name the two files that were made together"
                if mismatch
                else "write the key as PEM without a passphrase",
            )
        except (OSError, ValueError):
            self._complain(private_key, "can't be read", "correct its path, owner or mode")

    def _certificate(
        self, key: Key, file: str, passphrase: Secret | None, *, own: bool = False
    ) -> x509.Certificate | None:
        try:
            certificate = load_certificate(Path(file), passphrase=passphrase)
        except KeyUnusable as error:
            self._unusable(key, error)
            return None
        self._validity(key, certificate)
        if not own:  # the listener's certificate is no identity towards the bank
            self._checked.certificates[key] = certificate
        return certificate

    def _validity(self, key: Key, certificate: x509.Certificate) -> None:
        begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        when = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d")
        renew = "make a new one and give it to those who check it, before this one expires"
        if self._now >= end:
            self._complain(key, f"the certificate expired on {when}", "replace it", Severity.WARNING)
        elif end - self._now < EXPIRY_WARNING_SECONDS:
            days = int((end - self._now) // 86400)
            self._complain(key, f"the certificate expires on {when}, in {days} days", renew, Severity.WARNING)
        if self._now < begin:
            self._complain(
                key,
                "the certificate is not valid yet",
                "check this machine's clock, or wait",
                Severity.WARNING,
            )

    def _authorities(self, key: Key, file: str) -> None:
        if not _named(file):
            return
        try:
            certificates = x509.load_pem_x509_certificates(read_file(Path(file), most=_MAX_AUTHORITIES_BYTES).data)
        except FileUnusable as error:
            self._complain(key, error.what, error.fix)
        except ValueError:
            self._complain(key, "holds no PEM certificates", "name the CA's certificate, written as PEM")
        else:
            for certificate in certificates:
                self._validity(key, certificate)

    def _secret(self, key: Key, file: str) -> Secret | None:
        data = self._private(key, file)
        if data is None:
            return None
        try:
            secret = secret_of(data)
        except ValueError as error:
            what, _, fix = str(error).partition("; ")
            self._complain(key, what, fix or "write the secret alone into it, as UTF-8 text without BOM")
            return None
        return secret if self._is_secret(key, secret.reveal()) else None

    def _is_secret(self, key: Key, text: str) -> bool:
        found = not_a_secret(text)
        if found is not None:
            self._complain(key, *found)
        return found is None

    def _doubt(self, key: Key, secret: Secret | None) -> None:
        found = doubtful(secret.reveal()) if secret is not None else None
        if found is not None:
            self._complain(key, *found, Severity.WARNING)

    def _private(self, key: Key, file: str) -> bytes | None:
        """Return the content of the private *file*, None if none is named or it can't be used."""
        if not _named(file):
            return None
        try:
            return read_private_file(Path(file))
        except FileUnusable as error:
            self._complain(key, error.what, error.fix)
            return None

    def _unusable(self, key: Key, error: KeyUnusable) -> None:
        what, _, fix = str(error).partition("; ")
        self._complain(key, what, fix or "correct the file or its path")

    def _complain(self, key: Key, what: str, fix: str, severity: Severity = Severity.ERROR) -> None:
        self._checked.complaints.append(Complaint(key=key, what=what, fix=fix, severity=severity))


def _named(file: str) -> bool:
    """Return whether *file* is a path; placeholders are reported elsewhere."""
    return bool(file) and not is_placeholder(file)


def _facade_key(path: Path) -> bytes:
    return read_key(path, fewest=FEWEST_KEY_BYTES)
