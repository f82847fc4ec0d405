"""The files of a credential's key and certificate, and how new ones come into use, whole after each interruption."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.atomic_file import remove_unfinished, sync_directory
from proxy.cli.files import NewFile, locked, write_new
from proxy.cli.output import Failure
from proxy.clock import SystemClock
from proxy.credentials.csr import key_pem, new_key, public_pem, self_signed
from proxy.credentials.keys import (
    KeyUnusable,
    belong_together,
    beside,
    load_certificate,
    load_private_key,
    renewal_unfinished,
)
from proxy.entropy import SystemEntropy
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFiles:
    """Key and certificate files in use; the next ones stand beside them as .new, the last ones as .old."""

    key: Path
    certificate: Path

    @classmethod
    def of(cls, section: CredentialSection, *, name: str) -> Self:
        """Return the files of the credential *name*; raises Failure if `keys renew` can't renew them."""
        if section.private_key_uri:
            raise Failure(
                f"the key of {name} is in a token: make the next one with `payproxy keys new --pkcs11` and another "
                "object=, upload its certificate, name both in the configuration and send SIGHUP: the reload proves "
                "them by a mint"
            )
        if not (section.private_key_file and section.certificate_file):
            raise Failure(f"credential {name} has no private_key_file and certificate_file that could be renewed")
        if section.key_id:
            raise Failure(f"credential {name} has key_id, which names the old certificate; remove it: it is computed")
        pair = cls(key=Path(section.private_key_file), certificate=Path(section.certificate_file))
        for path in (pair.key, pair.certificate):
            if path.is_symlink():
                raise Failure(f"{path} is a link, as Kubernetes makes them: renew the secret where it comes from")
        return pair

    @property
    def next(self) -> "PairFiles":
        """Return the files of the pair to come."""
        return PairFiles(key=beside(self.key, "new"), certificate=beside(self.certificate, "new"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs of `keys renew` away, and remove what a killed one has left half written."""
        with locked(self.key.parent, task="`keys renew`"):
            for path in (self.next.key, self.next.certificate):
                remove_unfinished(path)
            yield

    def make_next(self, passphrase: Secret | None) -> None:
        """Make the next pair with the subject of the certificate in use; takes a next key that is there already.

        Raises Failure or KeyUnusable.
        """
        old = load_certificate(self.certificate, passphrase=passphrase)
        load_private_key(self.key, passphrase=passphrase)
        if b"-----BEGIN " not in self.key.read_bytes():
            raise Failure(f"{self.key} is PKCS#12, which holds key and certificate in one; make new ones: `keys new`")
        if old.issuer != old.subject:
            raise Failure(
                f"{self.certificate} is signed by an authority: make a request with `payproxy keys new --csr`, have it "
                "signed, upload the certificate, and put key and certificate in the place of the old ones"
            )
        if not self.next.key.exists():
            write_new([NewFile(path=self.next.key, data=key_pem(new_key(), passphrase=passphrase), secret=True)])
        key = self._next_key(passphrase)
        signed = self_signed(key, old.subject, now=SystemClock().now(), entropy=SystemEntropy())
        write_new([NewFile(path=self.next.certificate, data=public_pem(signed))])
        self._set_owners()

    def use_next(self) -> None:
        """Put the next files into use, those in use until now stay as .old; `finish` continues if killed in between.

        A file that is in use already (someone has copied it) does not take the place of the last one.
        """
        self._set_owners()
        renewed = ((self.key, self.next.key), (self.certificate, self.next.certificate))
        for path, new in renewed:
            if path.read_bytes() != new.read_bytes():
                old = beside(path, "old")
                old.unlink(missing_ok=True)
                os.link(path, old)
                sync_directory(path.parent)
        for path, new in renewed:  # the key first
            new.replace(path)
            sync_directory(path.parent)

    def finish(self, passphrase: Secret | None) -> bool:
        """Return whether an earlier run had put the key into use but not its certificate, which is done now.

        Raises Failure if there is a next certificate whose key is nowhere.
        """
        if self.next.key.exists() or not self.next.certificate.exists():
            return False
        if not renewal_unfinished(load_private_key(self.key, passphrase=passphrase), self.certificate):
            raise Failure(f"{self.next.certificate} has no key; remove it, and run this again")
        self.next.certificate.replace(self.certificate)
        sync_directory(self.certificate.parent)
        return True

    def check_next(self, passphrase: Secret | None) -> None:
        """Raise Failure if the next files can't be used or don't belong together, with the way out."""
        try:
            certificate = load_certificate(self.next.certificate)
        except KeyUnusable as error:
            raise Failure(f"{error}; or remove it, and run this again for a new one") from None
        if not belong_together(self._next_key(passphrase), certificate):
            raise Failure(
                f"{self.next.certificate} belongs to another key than {self.next.key}; remove both, and run this again"
            )

    def _next_key(self, passphrase: Secret | None) -> RSAPrivateKey:
        try:
            return load_private_key(self.next.key, passphrase=passphrase)
        except KeyUnusable as error:
            raise Failure(f"{error}; or remove it, and run this again for a new one") from None

    def _set_owners(self) -> None:
        """Give the next files owner and mode of those in use.

        Whoever runs this may be root, and the proxy another user, who has to read the files.
        """
        for new, old in ((self.next.key, self.key), (self.next.certificate, self.certificate)):
            status = old.stat()
            with contextlib.suppress(PermissionError):
                os.chown(new, status.st_uid, status.st_gid)
                new.chmod(status.st_mode & 0o777)
