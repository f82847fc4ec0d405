"""`payproxy assertion`: the bank's step "Sign a JWT", from the configuration or from options."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import click

from proxy.cli.configuration import valid_configuration
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, json_option
from proxy.cli.passphrase import passphrase_option, read_passphrase
from proxy.clock import SystemClock
from proxy.credentials.client_assertion import AssertionSigner, client_assertion_claims
from proxy.credentials.credential import PRIVATE_KEY_JWT, Credential, CredentialUnusable
from proxy.credentials.keys import KeyUnusable, belong_together, load_certificate, load_private_key, thumbprint
from proxy.entropy import SystemEntropy, uuid4
from proxy.settings.findings import did_you_mean

MODERN_TOKEN_URL = "https://login.jpmorgan.com/oauth2/token"  # noqa: S105 - an address

# The default lifetime of credentials.
DEFAULT_LIFETIME = 60

NO_KID = (
    "give --kid (the Thumbprint on the bank's Security page) or --certificate: "
    "without a kid the bank can't tell which of up to five certificates to check with"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    """Signing key and claims, from the configuration or from options."""

    client_id: str
    audience: str
    key_id: str
    lifetime: int
    signer: AssertionSigner


@click.command()
@click.argument("credential", required=False)
@click.option(
    "--private-key-file",
    "--private_key_file",
    "key_file",
    type=click.Path(path_type=Path),
    help="RSA key: PEM (PKCS#1, PKCS#8) or .p12.",
)
@click.option("--kid", help="Key id: the Thumbprint on the bank's Security page.")
@click.option("--certificate", type=click.Path(path_type=Path), help="Certificate whose SHA-1 thumbprint is the kid.")
@click.option("--sub", help="Client id.")
@click.option("--aud", help=f"Token URL; default {MODERN_TOKEN_URL}.")
@click.option("--jti", help="Id of this assertion; default a new UUID.")
@click.option("--lifetime", type=click.IntRange(10, 300), help=f"Seconds until it expires; default {DEFAULT_LIFETIME}.")
@passphrase_option
@file_option
@json_option
def assertion(
    *,
    credential: str | None,
    key_file: Path | None,
    kid: str | None,
    certificate: Path | None,
    sub: str | None,
    aud: str | None,
    jti: str | None,
    lifetime: int | None,
    passphrase_file: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Print a signed client assertion, in one line without white space.

    With CREDENTIAL from the configuration, or by hand with --private-key-file, --kid or --certificate, and --sub.
    """
    by_hand = {
        "--private-key-file": key_file,
        "--kid": kid,
        "--certificate": certificate,
        "--sub": sub,
        "--aud": aud,
        "--lifetime": lifetime,
        "--passphrase-file": passphrase_file,
    }
    if credential is not None:
        if given := [name for name, value in by_hand.items() if value is not None]:
            raise click.UsageError(f"{given[0]} belongs to the form without CREDENTIAL")
        client = _configured(credential, config_path)
    elif key_file is None or sub is None:
        raise click.UsageError("name a CREDENTIAL of the configuration, or give --private-key-file and --sub")
    elif (kid is None) == (certificate is None):
        raise click.UsageError(NO_KID if kid is None else "give --kid or --certificate, not both")
    else:
        signer, key_id = _key(key_file, kid, certificate, passphrase_file)
        client = _Client(
            client_id=sub,
            audience=aud or MODERN_TOKEN_URL,
            key_id=key_id,
            lifetime=lifetime or DEFAULT_LIFETIME,
            signer=signer,
        )
    claims = client_assertion_claims(
        client_id=client.client_id,
        audience=client.audience,
        lifetime=client.lifetime,
        now=SystemClock().now(),
        jti=jti or uuid4(SystemEntropy()),
    )
    text = asyncio.run(client.signer.sign(claims, key_id=client.key_id)).reveal()
    emit({"client_assertion": text}, as_json=as_json, human=text)


def _key(
    key_file: Path, kid: str | None, certificate_file: Path | None, passphrase: Path | None
) -> tuple[AssertionSigner, str]:
    """Return the signer and the kid from the options."""
    try:
        key = load_private_key(key_file, passphrase=read_passphrase(passphrase))
        if certificate_file is None:
            return AssertionSigner(key), kid or ""
        certificate = load_certificate(certificate_file, passphrase=read_passphrase(passphrase))
    except KeyUnusable as error:
        raise Failure(str(error)) from None
    if not belong_together(key, certificate):
        raise Failure(f"{certificate_file} belongs to another key than {key_file}; see `payproxy keys inspect`")
    return AssertionSigner(key), thumbprint(certificate, "sha1-hex")


def _configured(name: str, config_path: Path | None) -> _Client:
    """Return the credential *name* of the configuration."""
    configuration = valid_configuration(config_path)
    section = configuration.settings.credentials.get(name)
    if section is None:
        known = did_you_mean(name, configuration.settings.credentials)
        raise click.BadParameter(f"there is no credential of that name; {known}", param_hint="CREDENTIAL")
    if section.auth_method != PRIVATE_KEY_JWT:
        raise Failure(f"credential {name} signs no assertion: its auth_method is {section.auth_method}")
    try:
        loaded = Credential.load(section, name=name)
    except CredentialUnusable as error:
        raise Failure(str(error), code=ExitCode.CONFIGURATION) from None
    if loaded.signer is None:  # private_key_jwt always has one
        raise Failure(f"credential {name} has no key to sign with", code=ExitCode.CONFIGURATION)
    return _Client(
        client_id=loaded.client_id,
        audience=loaded.assertion_audience,
        key_id=loaded.key_id,
        lifetime=loaded.assertion_lifetime,
        signer=loaded.signer,
    )
