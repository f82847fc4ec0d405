"""`payproxy keys renew`: the next key and certificate of a credential, proven by a mint before they are used."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from proxy.cli.configuration import Configuration, valid_configuration
from proxy.cli.options import file_option
from proxy.cli.output import ExitCode, Failure, emit, json_option, note
from proxy.cli.pair_files import PairFiles
from proxy.clock import SystemClock
from proxy.credentials.credential import Credential, CredentialUnusable, read_secret_file
from proxy.credentials.keys import KeyUnusable, load_certificate, thumbprint
from proxy.entropy import SystemEntropy
from proxy.errors import TokenRefused, TokenUnavailable
from proxy.events import fan_out
from proxy.routing.compile import route_table
from proxy.secret import Secret
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
    pair = PairFiles.of(section, name=credential)
    users = _users(configuration.settings, pair)
    try:
        file = section.private_key_passphrase_file
        passphrase = read_secret_file(Path(file)) if file else None
        with pair.locked():
            state = _renew(configuration, pair, passphrase, users=users)
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


def _users(settings: Settings, pair: PairFiles) -> list[str]:
    """Return the credentials that use *pair*, which all have to be proven; raises Failure for any other use."""
    files = _named(str(pair.key), str(pair.certificate))
    found = []
    for name, section in settings.credentials.items():
        named = _named(section.private_key_file, section.certificate_file)
        if named == files:
            PairFiles.of(section, name=name)
            found.append(name)
        elif named & files:
            raise Failure(
                f"credential {name} uses one of the two files {pair.key} and {pair.certificate} only, and would be "
                "left without the other; give it a pair of its own"
            )
    for name, upstream in settings.upstreams.items():
        if files & _named(upstream.client_key_file, upstream.client_certificate_file):
            raise Failure(
                f"upstreams.{name} uses {pair.certificate} or its key for TLS, which no mint proves; give it a pair of "
                "its own"
            )
    return found


def _named(*files: str) -> set[Path]:
    return {Path(file).resolve() for file in files if file}


def _renew(configuration: Configuration, pair: PairFiles, passphrase: Secret | None, *, users: Sequence[str]) -> str:
    """Go one step on from what earlier runs have left; return "made" or "renewed"."""
    if pair.finish(passphrase):
        return "renewed"
    if not pair.next.certificate.exists():
        pair.make_next(passphrase)
        return "made"
    pair.check_next(passphrase)
    for name in users:
        _prove(configuration, pair.next, name=name)
    pair.use_next()
    return "renewed"


def _prove(configuration: Configuration, new: PairFiles, *, name: str) -> None:
    section = configuration.settings.credentials[name]
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
            f"the bank refuses {new.certificate} for credential {name}: {error.cause}; upload it, wait until the "
            "portal shows it, and run this again; the old pair stays in use"
        ) from None
    except TokenUnavailable as error:
        raise Failure(
            f"the new pair could not be proven for credential {name}: {error.detail} {error.cause}; the old pair "
            "stays in use",
            code=ExitCode.UNAVAILABLE,
        ) from None
