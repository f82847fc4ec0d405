"""`payproxy keys`: make and inspect the keys and certificates that the bank requires from its client."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.cli.files import NewFile, refuse_existing, refuse_unwritable, write_new
from proxy.cli.keys_renew import renew
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option, note, paint, printable
from proxy.cli.remote_keys import key_behind_program, key_in_token
from proxy.cli.sigterm import ended_by_sigterm
from proxy.clock import SystemClock, timestamp
from proxy.credentials.credential import CredentialUnusable, read_secret_file
from proxy.credentials.csr import (
    EXAMPLE_SUBJECT,
    Subject,
    SubjectInvalid,
    key_pem,
    new_key,
    public_pem,
    self_signed,
    signing_request,
)
from proxy.credentials.inspection import Inspection, Recognised, recognise
from proxy.credentials.inspection import inspect as inspect_file
from proxy.credentials.keys import THUMBPRINT_FORMS, KeyUnusable, belong_together
from proxy.credentials.remote_key import RemoteKey
from proxy.entropy import SystemEntropy
from proxy.secret import Secret
from proxy.settings.pkcs11_uri import SCHEME

UPLOAD_CERTIFICATE = """
Upload {certificate}, never the key: Payments Developer Portal, page Security, the tab of your environment, Request,
Add Security, certificate use OAUTH (up to five at a time). Every environment needs a key and certificate of its own.
Production may want one from an approved authority: `payproxy keys new --csr`.
The page then shows a Thumbprint, which is the kid: `payproxy keys inspect {certificate} --expect THUMBPRINT`."""

UPLOAD_REQUEST = """
Send {request}, never the key: to your certificate authority, or for legacy OAuth to your J.P. Morgan Developer project.
Every environment needs a request of its own with another CN. Thumbprints exist once the certificate has come back:
`payproxy keys inspect {key}CERTIFICATE`."""


passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="File (mode 0600) with the passphrase of an encrypted key; one trailing newline is dropped.",
)

pin_option = click.option(
    "--pin-file", type=click.Path(path_type=Path), help="File (mode 0600) with the token's PIN; else pin-source in URI."
)


@click.group()
def keys() -> None:
    """Make and inspect keys, certificates and signing requests."""


keys.add_command(renew)


@keys.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option("--csr", is_flag=True, help="Make a certificate signing request instead of a self-signed certificate.")
@click.option("--subject", "subject_text", required=True, help=f'All six fields: "{EXAMPLE_SUBJECT}".')
@click.option(
    "--pkcs11", "uri", metavar="URI", help="Make the key in a token, which it can't leave: pkcs11:token=T;object=O?..."
)
@click.option("--existing", is_flag=True, help="With --pkcs11: use the key that is in the token, make none.")
@click.option("--signer-command", "program", metavar="PROGRAM", help="Use the key of a program that signs.")
@click.option("--public-key", type=click.Path(path_type=Path), help="With --signer-command: its public key as PEM.")
@pin_option
@json_option
def new(out: Path, subject_text: str, *, csr: bool, as_json: bool, **where: Any) -> None:
    """Make an RSA key (oauth.key, mode 0600) with a self-signed certificate (oauth.crt) or a CSR (oauth.csr).

    With --pkcs11 the key is made in the token, and with --signer-command it exists already: there is no oauth.key.
    """
    try:
        subject = Subject.parse(subject_text)
    except SubjectInvalid as error:
        raise click.BadParameter(str(error), param_hint="--subject") from None
    public = out / ("oauth.csr" if csr else "oauth.crt")
    refuse_existing([public])  # before a key is made in a token, where it would stay
    refuse_unwritable(out)
    with ended_by_sigterm():
        key = _new_key(**where)
        with _told_that_it_stays(made=bool(where["uri"]) and not where["existing"]):
            pem = _signed(key, subject, csr=csr)
            remote = isinstance(key, RemoteKey)
            private = [] if remote else [NewFile(path=out / "oauth.key", data=key_pem(key), secret=True)]
            write_new([*private, NewFile(path=public, data=pem)])
    found = [inspect_file(file.path) for file in private] + [inspect_file(public)]
    emit([_as_dict(each) for each in found], as_json=as_json, human="\n\n".join(map(_block, found)))
    text = UPLOAD_REQUEST if csr else UPLOAD_CERTIFICATE
    uri = where["uri"]
    # A key behind a program is in no file that could be inspected.
    named = f"'{uri}' " if uri else "".join(f"{file.path} " for file in private)
    note(text.format(certificate=public, request=public, key=named))
    if uri:
        note(f'In the configuration: private_key_uri = "{uri}"')


@contextmanager
def _told_that_it_stays(*, made: bool) -> Iterator[None]:
    """If the rest fails, say that the key which was *made* in the token is there, and how to go on."""
    try:
        yield
    except BaseException:  # Ctrl-C
        if made:
            note("The key was made and stays in the token: the same command with --existing goes on with it.")
        raise


def _signed(key: RSAPrivateKey, subject: Subject, *, csr: bool) -> bytes:
    """Return the request or certificate of *key* as PEM; raise Failure. A key in a token is closed."""
    try:
        if csr:
            return public_pem(signing_request(key, subject))
        return public_pem(self_signed(key, subject, now=SystemClock().now(), entropy=SystemEntropy()))
    except KeyUnusable as error:
        raise Failure(str(error)) from None
    finally:
        if isinstance(key, RemoteKey):
            key.close()


def _new_key(
    *, uri: str | None, pin_file: Path | None, existing: bool, program: str | None, public_key: Path | None
) -> RSAPrivateKey:
    if existing and uri is None:
        raise click.UsageError("--existing belongs to --pkcs11")
    if (program is None) != (public_key is None):
        raise click.UsageError("--signer-command and --public-key go together")
    if uri is not None and program is not None:
        raise click.UsageError("give --pkcs11 or --signer-command, not both")
    if program is not None and public_key is not None:
        return key_behind_program(program, public_key)
    return new_key() if uri is None else key_in_token(uri, pin_file, make=not existing)


@keys.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--expect", metavar="THUMBPRINT", help="The Thumbprint that the bank's Security page shows.")
@passphrase_option
@pin_option
@json_option
def inspect(
    files: Sequence[str], expect: str | None, passphrase_file: Path | None, pin_file: Path | None, *, as_json: bool
) -> None:
    """Show what FILES contain, their thumbprints and expiry, and whether key and certificate belong together.

    A key in a token is named by its URI, pkcs11:..., in place of a file.
    Ends with 1 if a file can't be used, files don't belong together, or the expected thumbprint is not one of theirs.
    """
    passphrase = read_passphrase(passphrase_file)
    found = [
        _in_token(each, pin_file) if each.startswith(SCHEME) else inspect_file(Path(each), passphrase=passphrase)
        for each in files
    ]
    certificates = {str(each.path): each.certificate for each in found if each.certificate}
    expected = recognise(expect, certificates) if expect else None
    together = _together(found)
    value: dict[str, Any] = {"files": [_as_dict(each) for each in found], "belong_together": together}
    if expected:
        value["expected"] = {"file": expected.name, "key_id_format": expected.form, "exact": expected.exact}
    emit(value, as_json=as_json, human="\n\n".join(map(_block, found)))
    errors = [each.problem for each in found if each.problem]
    if together is False:
        errors.append("these files don't belong together: they hold different keys")
    if expected and not expected.form:
        errors.append(f"{expected.text} is not a thumbprint of these files; is another certificate uploaded?")
    for text in errors:
        note(f"{paint('error', 'red', err=True)}: {printable(text)}")
    for text in _remarks(found, together=together, expected=expected):
        note(text)
    if errors:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _together(found: Sequence[Inspection]) -> bool | None:
    """Return whether all readable files belong to one key; None if there is no private key to compare with."""
    whole = [each for each in found if each.kind]
    parts = sum(bool(thing) for each in whole for thing in (each.key, each.certificate, each.request))
    if parts < 2 or not any(each.key for each in whole):
        return None
    mixed = any(each.key and each.certificate and not belong_together(each.key, each.certificate) for each in whole)
    return not mixed and len({each.identity for each in whole}) == 1


def _remarks(found: Sequence[Inspection], *, together: bool | None, expected: Recognised | None) -> Iterator[str]:
    if together:
        yield "They belong together."
    for each in found:
        if each.certificate and each.certificate.not_valid_after_utc.timestamp() <= SystemClock().now():
            yield f"{paint('warning', 'yellow', err=True)}: {each.path}: the certificate has expired"
    if expected and expected.form:
        default = expected.form == THUMBPRINT_FORMS[0]
        setting = "which is the default" if default else f'so set key_id_format = "{expected.form}"'
        yield f"{expected.text} is the {expected.form} thumbprint of {expected.name}, {setting}."
        if not expected.exact:
            yield f'It is spelled in another way; if the bank insists on this spelling, set key_id = "{expected.text}".'


def _as_dict(each: Inspection) -> dict[str, Any]:
    value: dict[str, Any] = {"file": str(each.path), "kind": each.kind, "problem": each.problem}
    value |= {name: known for name, known in (("bits", each.bits), ("subject", each.subject)) if known}
    if each.key_thumbprint:
        value["key_thumbprint"] = each.key_thumbprint
    if each.certificate:
        value["issuer"] = each.certificate.issuer.rfc4514_string()
        value["valid_from"] = timestamp(each.certificate.not_valid_before_utc.timestamp())
        value["expires"] = timestamp(each.certificate.not_valid_after_utc.timestamp())
        value["thumbprints"] = each.thumbprints
    return value


def _block(each: Inspection) -> str:
    rows = [("kind", f"{each.kind} (RSA {each.bits})" if each.bits else each.kind or "can't be used")]
    if each.subject:
        rows.append(("subject", each.subject))
    if each.certificate:
        rows.append(("expires", each.certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC")))
    rows += list(each.thumbprints.items())
    rows += [("of the key", each.key_thumbprint)] if each.key_thumbprint else []
    return f"{printable(str(each.path))}\n{facts(rows, indent='  ')}"


def _in_token(uri: str, pin_file: Path | None) -> Inspection:
    try:
        key = key_in_token(uri, pin_file, make=False)
    except Failure as failure:
        return Inspection(path=Path(uri), problem=failure.message)
    key.close()
    return Inspection(path=Path(uri), key=key)


def read_passphrase(path: Path | None) -> Secret | None:
    """Return the secret in *path*, None without a path; raises Failure if the file can't be used."""
    try:
        return None if path is None else read_secret_file(path)
    except CredentialUnusable as error:
        raise Failure(str(error)) from None
