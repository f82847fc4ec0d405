"""`payproxy assertion`: the bank's step "Sign a JWT", from the configuration or from options."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import click

from proxy.cli.configuration import valid_configuration
from proxy.cli.keys import passphrase_option, read_passphrase
from proxy.cli.names import names_of
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, json_option
from proxy.cli.sigterm import ended_by_sigterm
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


class _Client(NamedTuple):
    """Who signs, with what: from the configuration or from options."""

    client_id: str
    audience: str
    key_id: str
    lifetime: int
    signer: AssertionSigner


@click.command()
@click.argument("credential", required=False, shell_complete=names_of("credentials"))
@click.option(
    "--private-key-file",
    "--private_key_file",
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
    credential: str | None, config_path: Path | None, jti: str | None, *, as_json: bool, **by_hand: Any
) -> None:
    """Print a signed client assertion, in one line without white space.

    With CREDENTIAL from the configuration, or by hand with --private-key-file, --kid or --certificate, and --sub.
    """
    if credential is not None:
        if given := [name for name, value in by_hand.items() if value is not None]:
            raise click.UsageError(f"--{given[0].replace('_', '-')} belongs to the form without CREDENTIAL")
        client = _configured(credential, config_path)
    else:
        client = _by_hand(**by_hand)
    claims = client_assertion_claims(
        client_id=client.client_id,
        audience=client.audience,
        lifetime=client.lifetime,
        now=SystemClock().now(),
        jti=jti or uuid4(SystemEntropy()),
    )
    try:
        with ended_by_sigterm():
            text = asyncio.run(_signed(client, claims))
    except KeyUnusable as error:
        raise Failure(str(error)) from None
    emit({"client_assertion": text}, as_json=as_json, human=text)


async def _signed(client: _Client, claims: dict[str, Any]) -> str:
    try:
        return (await client.signer.sign(claims, key_id=client.key_id)).reveal()
    finally:
        await client.signer.close()


def _by_hand(
    *,
    private_key_file: Path | None,
    kid: str | None,
    certificate: Path | None,
    sub: str | None,
    aud: str | None,
    lifetime: int | None,
    passphrase_file: Path | None,
) -> _Client:
    """Return the client that the options describe."""
    if private_key_file is None or sub is None:
        raise click.UsageError("name a CREDENTIAL of the configuration, or give --private-key-file and --sub")
    if (kid is None) == (certificate is None):
        raise click.UsageError(NO_KID if kid is None else "give --kid or --certificate, not both")
    passphrase = read_passphrase(passphrase_file)
    try:
        key = load_private_key(private_key_file, passphrase=passphrase)
        loaded = load_certificate(certificate, passphrase=passphrase) if certificate else None
    except KeyUnusable as error:
        raise Failure(str(error)) from None
    if loaded is not None and not belong_together(key, loaded):
        raise Failure(f"{certificate} belongs to another key than {private_key_file}; see `payproxy keys inspect`")
    key_id = kid or (thumbprint(loaded, "sha1-hex") if loaded else "")
    return _Client(sub, aud or MODERN_TOKEN_URL, key_id, lifetime or DEFAULT_LIFETIME, AssertionSigner(key))


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
    return _Client(loaded.client_id, loaded.assertion_audience, loaded.key_id, loaded.assertion_lifetime, loaded.signer)
