"""Checks of `signature`: one key that signs nothing else, and a rule that has something to sign."""

from collections.abc import Iterator

from proxy.settings.findings import Complaint, Key
from proxy.settings.methods import SIGNED_METHODS
from proxy.settings.model import RouteSection
from proxy.settings.signature import SignatureSection
from proxy.settings.signing_key import contradictions, key_settings
from proxy.settings.valid import Valid


def signatures(valid: Valid) -> Iterator[Complaint]:
    """Check the signature of every rule that has one."""
    for number, route in valid.routes.items():
        key: Key = ("routes", number, "signature")
        if route.signature.configured:
            yield from contradictions(key, route.signature)
            yield from _of_its_own(valid, route.signature, key)
            yield from _something_to_sign(route, ("routes", number))
        elif route.signature != SignatureSection():
            fix = "name the file of an RSA key made for this, or its private_key_uri, or a signer_command"
            yield Complaint(key=(*key, "private_key_file"), what="no key is named that signs the bodies", fix=fix)


def shared_with(credential: str) -> tuple[str, str]:
    """Return why a key for bodies must not be that of *credential*, and how to mend it.

    A worker, which parses callers' bytes, gets any digest signed: with a credential's key that of an assertion too.
    """
    what = f'credential "{credential}" signs its client assertions with this key: a worker that was taken over could '
    fix = "make a key for bodies with `payproxy keys new`, and upload its certificate for digital signature"
    return f"{what}have one signed, and get tokens anywhere", fix


def _of_its_own(valid: Valid, signature: SignatureSection, key: Key) -> Iterator[Complaint]:
    for name, credential in valid.settings.credentials.items():
        for setting in key_settings(signature):
            if getattr(signature, setting) == getattr(credential, setting):
                what, fix = shared_with(name)
                yield Complaint(key=(*key, setting), what=what, fix=fix)


def _something_to_sign(route: RouteSection, key: Key) -> Iterator[Complaint]:
    if route.methods and not SIGNED_METHODS & set(route.methods):
        what = "the rule takes neither POST nor PUT, and the bank wants no other body signed"
        yield Complaint(key=(*key, "signature"), what=what, fix="remove it, or add the methods")
    if not route.replay_body_bytes:
        what = "a body is signed as a whole, and the rule holds none"
        yield Complaint(key=(*key, "replay_body_bytes"), what=what, fix="write the size of the largest body to sign")
