"""`payproxy keys renew`: the next key and certificate of a credential, proven by a mint before they are used."""

import asyncio
import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.cli.configuration import Configuration, valid_configuration
from proxy.cli.files import NewFile, write_new
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, json_option, note
from proxy.clock import SystemClock
from proxy.credentials.credential import Credential, CredentialUnusable, read_secret_file
from proxy.credentials.csr import key_pem, new_key, public_pem, self_signed
from proxy.credentials.keys import KeyUnusable, belong_together, load_certificate, load_private_key, thumbprint
from proxy.entropy import SystemEntropy
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import fan_out
from proxy.routing.compile import route_table
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.findings import did_you_mean
from proxy.settings.model import Settings
from proxy.settings.values import snapshot_of

MADE = """
1. Upload {certificate}, never the key, at the bank as one more certificate (use OAUTH, up to five at a time). Leave the
   old one there: it is used until the new one works.
2. Run the same command again: it mints a token with the new key, and only then puts the two files into use."""

BODIES = """{rule} is a rule that signs bodies. No mint can prove that key, and a request with its signature may move
money, so renew it by hand:
1. {make}
2. Upload its certificate at the bank, beside the old one.
3. {use} A running proxy has the new key make a signature, and then uses it; the log says "key for bodies ... replaced".
4. Remove the old certificate at the bank once no record has its thumbprint any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Key and certificate files in use; the next ones stand beside them as .new, the last ones as .old."""

    key: Path
    certificate: Path

    @classmethod
    def of(cls, section: CredentialSection, *, name: str) -> Self:
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
    def next(self) -> "_Pair":
        """Return the files of the pair to come."""
        return _Pair(key=_beside(self.key, "new"), certificate=_beside(self.certificate, "new"))


@click.command()
@click.argument("credential")
@file_option
@json_option
def renew(credential: str, config_path: Path | None, *, as_json: bool) -> None:
    """Renew the key and the self-signed certificate of CREDENTIAL, in two runs of the same command.

    The first makes both beside the old ones (.new) and says what to upload. The second mints a token with them, and
    only if the bank accepts them they take the place of the old ones, which stay as .old. A running proxy notices,
    proves them by a mint of its own, and loses no request. For a rule that signs bodies it prints what to do.
    """
    configuration = valid_configuration(config_path)
    section = configuration.settings.credentials.get(credential)
    if section is None:
        _explain_bodies(credential, configuration.settings)
        known = did_you_mean(credential, configuration.settings.credentials)
        raise click.BadParameter(f"there is no credential of that name; {known}", param_hint="CREDENTIAL")
    pair = _Pair.of(section, name=credential)
    try:
        file = section.private_key_passphrase_file
        passphrase = read_secret_file(Path(file)) if file else None
        if _finish(pair, passphrase):
            state = "renewed"
        elif not pair.next.certificate.exists():
            _make(pair, passphrase)
            state = "made"
        else:
            _prove(configuration, section, pair.next, name=credential)
            _use(pair)
            state = "renewed"
        current = pair.next.certificate if state == "made" else pair.certificate
        key_id = thumbprint(load_certificate(current), section.key_id_format)
    except (KeyUnusable, CredentialUnusable) as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from None
    emit({"state": state, "certificate": str(current), "key_id": key_id}, as_json=as_json, human=f"{state} {key_id}")
    if state == "made":
        note(MADE.format(certificate=current))
    else:
        note("In use; a running proxy takes it within seconds. Once it has, remove the old certificate at the bank.")


def _explain_bodies(rule: str, settings: Settings) -> None:
    """Raise Failure with what to do if *rule* is the name of one that signs bodies."""
    section = next((one.signature for one in settings.routes if one.name == rule and one.signature.configured), None)
    if section is None:
        return
    make = "Make the next key where this one is (docs/body-signing.md, The key)."
    use = "Name the new key and certificate in the configuration, and send SIGHUP."
    if section.private_key_file:
        make = "Make a new pair: `payproxy keys new --out FOLDER`, with the subject of the certificate that you have."
        files = " and ".join(filter(None, (section.private_key_file, section.certificate_file)))
        use = f"Put it in the place of {files}."
    raise Failure(BODIES.format(rule=rule, make=make, use=use))


def _make(pair: _Pair, passphrase: Secret | None) -> None:
    old = load_certificate(pair.certificate, passphrase=passphrase)
    load_private_key(pair.key, passphrase=passphrase)
    if b"-----BEGIN " not in pair.key.read_bytes():
        raise Failure(f"{pair.key} is PKCS#12, which holds key and certificate in one; make new ones: `keys new`")
    if old.issuer != old.subject:
        raise Failure(
            f"{pair.certificate} is signed by an authority: make a request with `payproxy keys new --csr`, have it "
            "signed, upload the certificate, and put key and certificate in the place of the old ones"
        )
    key = new_key()
    certificate = self_signed(key, old.subject, now=SystemClock().now(), entropy=SystemEntropy())
    _write(pair, key, certificate, passphrase)


def _write(pair: _Pair, key: RSAPrivateKey, certificate: x509.Certificate, passphrase: Secret | None) -> None:
    made = pair.next
    write_new(
        [
            NewFile(path=made.key, data=key_pem(key, passphrase=passphrase), secret=True),
            NewFile(path=made.certificate, data=public_pem(certificate)),
        ]
    )
    for new, old in ((made.key, pair.key), (made.certificate, pair.certificate)):
        status = old.stat()
        # Whoever runs this may be root, and the proxy another user, who has to read the files.
        with contextlib.suppress(PermissionError):
            os.chown(new, status.st_uid, status.st_gid)
            new.chmod(status.st_mode & 0o777)


def _prove(configuration: Configuration, section: CredentialSection, new: _Pair, *, name: str) -> None:
    changed = replace(section, private_key_file=str(new.key), certificate_file=str(new.certificate))
    credential = Credential.load(changed, name=name)
    snapshot = snapshot_of(configuration.settings, instance="renew")
    keys = [key for key in route_table(snapshot).origins() if key.credential == name]
    if not keys:
        raise Failure(f"no route uses credential {name}, so there is no token to prove the new key with")
    from proxy.keeper.rotation import Prover  # noqa: PLC0415 - with it comes aiohttp: a third of the CPU of `keys`

    prover = Prover(clock=SystemClock(), entropy=SystemEntropy(), observe=fan_out())
    try:
        asyncio.run(prover.prove(credential, keys))
    except TokenRefused as error:
        raise Failure(
            f"the bank refuses {new.certificate}: {error.cause}; upload it, wait until the portal shows it, and run "
            "this again; the old pair stays in use"
        ) from None
    except TokenUnavailable as error:
        raise Failure(
            f"the new pair could not be proven: {error.detail} {error.cause}; the old pair stays in use",
            code=ExitCode.UNAVAILABLE,
        ) from None


def _use(pair: _Pair) -> None:
    """Put the new files into use; the key goes first, and `_finish` continues if we are killed in between."""
    for path in (pair.key, pair.certificate):
        old = _beside(path, "old")
        old.unlink(missing_ok=True)
        os.link(path, old)
    pair.next.key.replace(pair.key)
    pair.next.certificate.replace(pair.certificate)


def _finish(pair: _Pair, passphrase: Secret | None) -> bool:
    """Return whether an earlier run had put the key into use but not its certificate, which is done now."""
    if pair.next.key.exists() or not pair.next.certificate.exists():
        return False
    key = load_private_key(pair.key, passphrase=passphrase)
    if not belong_together(key, load_certificate(pair.next.certificate)):
        raise Failure(f"{pair.next.certificate} has no key; remove it, and run this again")
    pair.next.certificate.replace(pair.certificate)
    return True


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")
