"""Checks the files that a configuration names: existence, permissions, matching pairs, expiry."""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from proxy.callers.bearer import FEWEST_KEY_BYTES
from proxy.checks.caller_keys import assertion_key
from proxy.checks.devices import check_device
from proxy.credentials.body_signer import keys_for_bodies
from proxy.credentials.credential import SecretUnusable, secret_of
from proxy.credentials.keys import (
    KeyUnusable,
    belong_together,
    holds_no_key,
    key_thumbprint,
    load_certificate,
    load_private_key,
    renewal_unfinished,
)
from proxy.private_file import (
    FileUnusable,
    directory_exposed,
    directory_unusable,
    read_file,
    read_key,
    read_private_file,
)
from proxy.records.body_hmac import read_body_key
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.findings import Complaint, Key, Severity
from proxy.settings.model import Settings
from proxy.settings.placeholder import is_placeholder
from proxy.settings.route_rules import database_server
from proxy.settings.secret_text import doubtful, not_a_secret
from proxy.settings.section import Section
from proxy.settings.signature_rules import shared_with
from proxy.settings.signing_key import KeySettings, contradictions, pin_file
from proxy.settings.stores import DATABASE, REDIS, UrlUnusable
from proxy.stores import encryption
from proxy.telemetry.expiry import WARNING_SECONDS, renewal, time_left

# The public web's CA bundle has 0.2 MB.
_MAX_AUTHORITIES_BYTES = 4 * 1024 * 1024

_PIN_FILE = "private_key_pin_file"

_Content = TypeVar("_Content")


@dataclass(slots=True, kw_only=True)
class CheckedFiles:
    """The result; *keys* (their public halves) and *certificates* are the usable ones, for comparing environments."""

    complaints: list[Complaint] = field(default_factory=list)
    keys: dict[Key, RSAPublicKey] = field(default_factory=dict)
    certificates: dict[Key, x509.Certificate] = field(default_factory=dict)


def check_settings_files(settings: Settings, *, now: float, devices: bool = True) -> CheckedFiles:
    """Check every file that *settings* names; *now* is in epoch seconds. Never raises, sends nothing.

    With *devices* also the tokens that hold keys are opened, which tries their PIN: do it once.
    """
    return _Files(now, devices=devices).check(settings)


class _Files:
    def __init__(self, now: float, *, devices: bool) -> None:
        self._now = now
        self._devices = devices
        self._checked = CheckedFiles()
        self._rules: list[str] = []

    def check(self, settings: Settings) -> CheckedFiles:
        self._rules = [route.name for route in settings.routes]
        self._data_directory(Path(settings.data_directory))
        self._tls_pair(("server",), settings.server, "", own=True)
        self._tls_pair(("admin",), settings.admin, "", own=True)
        self._authorities(("server", "client_ca_file"), settings.server.client_ca_file)
        for table, sections in (("upstreams", settings.upstreams), ("credentials", settings.credentials)):
            for name, client in sections.items():
                self._tls_pair((table, name), client, "client_", own=False)
                self._authorities((table, name, "ca_file"), client.ca_file)
        for name, credential in settings.credentials.items():
            self._credential(("credentials", name), credential)
        self._signatures(settings)
        for key, files, read in (
            (("request_log", "body_hmac_key_file"), [settings.request_log.body_hmac_key_file], read_body_key),
            (("facade", "signing_key_files"), settings.facade.signing_key_files, _facade_key),
            (("state", "encryption_key_files"), settings.state.encryption_key_files, encryption.read_key),
        ):
            for file in files:
                self._read(key, file, read, name_it=True)
        for name, caller in settings.callers.items():
            for file in caller.assertion_certificate_files:
                self._read(("callers", name, "assertion_certificate_files"), file, assertion_key)
        database = ("request_log", "database_file")
        if (url := self._read(database, settings.request_log.database_file, DATABASE.read)) is not None:
            self._checked.complaints += database_server(database, url)
        self._read(("state", "url_file"), settings.state.url_file, REDIS.read)
        self._authorities(("state", "ca_file"), settings.state.ca_file)
        return self._checked

    def _data_directory(self, path: Path) -> None:
        fault = directory_exposed(path, us=os.geteuid()) or directory_unusable(path)
        if fault is not None:
            # A directory that does not exist yet may be made by systemd, for its service only.
            severity = Severity.ERROR if os.path.exists(path) else Severity.WARNING  # noqa: PTH110 - it never raises
            self._complain(("data_directory",), fault.what, fault.fix, severity)

    def _read(self, key: Key, file: str, read: Callable[[Path], _Content], *, name_it: bool = False) -> _Content | None:
        """Return what *read* returns for the *file* named at *key*; None if none is named or it can't be used."""
        if not file or is_placeholder(file):  # placeholders are reported elsewhere
            return None
        try:
            return read(Path(file))
        except FileUnusable as error:
            self._complain(key, f"{file} can't be used: {error.what}" if name_it else error.what, error.fix)
        except (KeyUnusable, UrlUnusable, SecretUnusable) as error:
            what, _, fix = str(error).partition("; ")
            self._complain(key, what, fix or "correct the file or its path")
        return None

    def _credential(self, key: Key, credential: CredentialSection) -> None:
        if credential.client_secret is None:
            secret = self._secret((*key, "client_secret_file"), credential.client_secret_file)
            self._doubt((*key, "client_secret_file"), secret)
        elif self._is_secret((*key, "client_secret"), credential.client_secret):
            self._doubt((*key, "client_secret"), credential.client_secret)
        self._signing_key(key, credential)

    def _signing_key(self, key: Key, section: KeySettings) -> None:
        """Check the key of the table *key*, its passphrase, certificate and PIN, and its device."""
        passphrase = self._secret((*key, "private_key_passphrase_file"), section.private_key_passphrase_file)
        if passphrase is None and section.private_key_passphrase_file:
            return  # the key can't be checked without it
        key_at, certificate_at = (*key, "private_key_file"), (*key, "certificate_file")
        private_key = self._read(key_at, section.private_key_file, partial(load_private_key, passphrase=passphrase))
        if private_key is not None:
            self._checked.keys[key_at] = private_key.public_key()
        certificate = self._certificate(certificate_at, section.certificate_file, passphrase)
        if private_key is not None and certificate is not None and not belong_together(private_key, certificate):
            fix = "name the two files that were made together; `payproxy keys inspect FILE...` shows them"
            if key[0] == "credentials" and renewal_unfinished(private_key, Path(section.certificate_file)):
                fix = f"`payproxy keys renew {key[1]}` was interrupted; run it again: it replaces the certificate too"
            self._complain(certificate_at, "the certificate belongs to another key than private_key_file", fix)
        file = pin_file(section)
        pin_at = (*key, "private_key_uri" if file != section.private_key_pin_file else _PIN_FILE)
        pin = self._secret(pin_at, file)
        named_twice = any(contradictions(key, section))  # a PIN that may be the wrong one is not tried
        if self._devices and not named_twice and (pin is not None or not file):
            found = check_device(section, key, certificate=certificate, pin=pin or section.private_key_pin)
            self._checked.complaints += found.complaints
            self._checked.keys |= found.keys

    def _signatures(self, settings: Settings) -> None:
        """Check the keys for bodies, each once, and that none signs the assertions of a credential."""
        numbers = {route.name: number for number, route in enumerate(settings.routes)}
        for names, section in keys_for_bodies(settings.routes).items():
            self._signing_key(("routes", numbers[names[0]], "signature"), section)
        named = {key_thumbprint(public): key for key, public in self._checked.keys.items() if key[0] == "credentials"}
        for key, public in self._checked.keys.items():
            if key[0] == "routes" and (other := named.get(key_thumbprint(public))) is not None:
                self._complain(key, *shared_with(str(other[1])))

    def _tls_pair(self, key: Key, section: Section, prefix: str, *, own: bool) -> None:
        """Check a TLS identity by loading it with OpenSSL, which reads it later (any kind of key is allowed)."""
        key_at = (*key, f"{prefix}key_file")
        certificate_file, key_file = (str(getattr(section, f"{prefix}{one}_file")) for one in ("certificate", "key"))
        private = self._read(key_at, key_file, read_private_file)
        certificate = self._certificate((*key, f"{prefix}certificate_file"), certificate_file, own=own)
        if private is None or certificate is None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if own else ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_cert_chain(certificate_file, key_file, password=lambda: "")
        except ssl.SSLError as error:
            what, fix = "is no usable, unencrypted PEM key", "write the key as PEM without a passphrase"
            if held := holds_no_key(Path(key_file)):
                what = f"holds {held}, not a private key"
                fix = f"name the file of the key that belongs to {prefix}certificate_file"
            elif error.reason == "KEY_VALUES_MISMATCH":
                what = f"the key does not belong to {prefix}certificate_file"
                fix = "name the two files that were made together"
            self._complain(key_at, what, fix)
        except (OSError, ValueError):
            self._complain(key_at, "can't be read", "correct its path, owner or mode")

    def _certificate(
        self, key: Key, file: str, passphrase: Secret | None = None, *, own: bool = False
    ) -> x509.Certificate | None:
        certificate = self._read(key, file, partial(load_certificate, passphrase=passphrase))
        if certificate is not None:
            self._validity(key, certificate)
            if not own:  # the listener's certificate is no identity towards the bank
                self._checked.certificates[key] = certificate
        return certificate

    def _authorities(self, key: Key, file: str) -> None:
        for certificate in self._read(key, file, _authorities) or ():
            self._validity(key, certificate)

    def _validity(self, key: Key, certificate: x509.Certificate) -> None:
        begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        when = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d")
        if self._now >= end:
            self._complain(key, f"the certificate expired on {when}", self._renewal(key), Severity.WARNING)
        elif end - self._now < WARNING_SECONDS:
            what = f"the certificate expires on {when}, in {time_left(end - self._now)}"
            self._complain(key, what, f"{self._renewal(key)}, before this one expires", Severity.WARNING)
        if self._now < begin:
            what, fix = "the certificate is not valid yet", "check this machine's clock, or wait"
            self._complain(key, what, fix, Severity.WARNING)

    def _renewal(self, key: Key) -> str:
        """Return what to do about the certificate at *key*, as the log of the running proxy says it."""
        match key:
            case ("credentials", name, "certificate_file"):
                return renewal("credential", str(name))
            case ("routes", int(number), "signature", _):
                return renewal("signature", self._rules[number])
        return renewal("", "")

    def _secret(self, key: Key, file: str) -> Secret | None:
        secret = self._read(key, file, _secret)
        return secret if secret is not None and self._is_secret(key, secret) else None

    def _is_secret(self, key: Key, secret: Secret) -> bool:
        found = not_a_secret(secret.reveal())
        if found is not None:
            self._complain(key, *found)
        return found is None

    def _doubt(self, key: Key, secret: Secret | None) -> None:
        found = doubtful(secret.reveal()) if secret is not None else None
        if found is not None:
            self._complain(key, *found, Severity.WARNING)

    def _complain(self, key: Key, what: str, fix: str, severity: Severity = Severity.ERROR) -> None:
        self._checked.complaints.append(Complaint(key=key, what=what, fix=fix, severity=severity))


def _facade_key(path: Path) -> bytes:
    return read_key(path, fewest=FEWEST_KEY_BYTES)


def _secret(path: Path) -> Secret:
    return secret_of(read_private_file(path))


def _authorities(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_file(path, most=_MAX_AUTHORITIES_BYTES).data)
    except ValueError:
        raise KeyUnusable("holds no PEM certificates; name the CA's certificate, written as PEM") from None
