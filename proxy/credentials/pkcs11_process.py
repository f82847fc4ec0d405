"""The process that loads a vendor's PKCS#11 module: reads requests as JSON lines on stdin, answers on stdout.

It is a process of its own so that the keeper can end it: a module may hang, crash, or (a token in software) hold the
key in its memory. It knows nothing but what each request says, and ends when its stdin is closed.
"""

import json
import os
import sys
import threading
from queue import SimpleQueue
from typing import Any, BinaryIO

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, TokenFlag

from proxy.memory_protection import end_with_parent, protect_memory

_MOST_NAMED = 5
_EXISTING = ", or use that key with `payproxy keys new --existing`"
_SIGN = Mechanism.SHA256_RSA_PKCS
# With it the token pads only, so the DigestInfo of SHA-256 (RFC 8017 9.2, note 1) goes before a digest.
_SIGN_DIGEST = Mechanism.RSA_PKCS
_SHA256_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")

# Set while wrong PINs were given since the last login (CK_TOKEN_INFO, PKCS#11 2.40 3.2), by tokens that show it.
_WRONG_PINS = TokenFlag.USER_PIN_COUNT_LOW | TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_LOCKED

# What an operator can mend, so that trying again without a change is of no use, by the vendor's code.
_PIN = {
    pkcs11.PinIncorrect: (
        "the PIN is wrong",
        "correct the PIN (this one is not given to the token again: tokens lock)",
    ),
    pkcs11.PinLenRange: ("the PIN is too short or too long", "correct the PIN (this one is not given to it again)"),
    pkcs11.PinInvalid: ("the PIN has a character that the token refuses", "correct the PIN"),
    pkcs11.PinLocked: ("the token is locked after too many wrong PINs", "unlock it with the security officer's PIN"),
    pkcs11.PinExpired: ("the PIN has expired", "set a new one with the vendor's tool"),
}


class Refused(Exception):
    """A request can't be served; *lasting* if the same request would fail again until somebody changes something.

    *pin* is "refused" if the token refused the PIN, "withheld" if it was not given to it, else "".
    """

    def __init__(self, what: str, fix: str, *, lasting: bool = True, pin: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.lasting = lasting
        self.pin = pin


class _Device:
    """The open token and key."""

    def __init__(self) -> None:
        self._token: Any = None
        self._session: Any = None
        self._key: Any = None

    def find(self, request: dict[str, Any]) -> dict[str, Any]:
        """Find the token, without a login: say which one it is, and whether wrong PINs were given to it."""
        token = self._token = _token(request)
        named = (token.manufacturer_id, token.model, token.serial, token.label)
        flagged = bool(token.flags & _WRONG_PINS)
        return {"token": json.dumps([_words(part) for part in named]), "flagged": flagged}

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        self._session = _logged_in(self._token, request)
        self._key = _private_key(self._session, request)
        return _described(self._session, self._key)

    def generate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a key that can't leave the token; refuse if there is one with that label or id."""
        session = self._session = _logged_in(self._token, request, writing=True)
        for name, attribute, value in _named(request):
            if any(True for _ in session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, attribute: value})):
                raise Refused(f"the token has a key with that {name} already", f"choose another {name}{_EXISTING}")
        key_id = bytes.fromhex(request["key_id"]) or os.urandom(8)
        _, self._key = session.generate_keypair(
            KeyType.RSA,
            request["bits"],
            id=key_id,
            label=request["label"] or key_id.hex(),
            store=True,
            public_template={Attribute.PRIVATE: False},
            private_template={
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.PRIVATE: True,
                Attribute.SIGN: True,
                Attribute.DECRYPT: False,
                Attribute.UNWRAP: False,
            },
        )
        return _described(session, self._key)

    def sign(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the signature of the bytes in "sign", or, with "hashed", of those that have this digest."""
        given = bytes.fromhex(request["sign"])
        if request.get("hashed"):
            return {"signature": self._key.sign(_SHA256_DIGEST_INFO + given, mechanism=_SIGN_DIGEST).hex()}
        return {"signature": self._key.sign(given, mechanism=_SIGN).hex()}


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Serve one request after the other."""
    device = _Device()
    waiting: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    while True:
        request = json.loads(waiting.get())
        answers.write(json.dumps(_answer(device, request)).encode() + b"\n")
        answers.flush()


def _read(requests: BinaryIO, waiting: "SimpleQueue[bytes]") -> None:
    """Read in a thread, so that this process ends when its stdin is closed, even while the module hangs."""
    for line in requests:
        waiting.put(line)
    os._exit(0)


def _answer(device: _Device, request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "sign" in request:
            return device.sign(request)
        if "module" in request:
            return device.find(request)
        return device.generate(request) if "bits" in request else device.open(request)
    except Refused as refused:
        return {"what": refused.what, "fix": refused.fix, "lasting": refused.lasting, "pin": refused.pin}
    except pkcs11.PKCS11Error as error:
        # Only the name: the vendor's text might quote anything.
        what = f"the module failed with {type(error).__name__}"
        return {"what": what, "fix": "look at the token's state and the vendor's log", "lasting": False, "pin": ""}


def _token(request: dict[str, Any]) -> Any:
    if not os.access(request["module"], os.R_OK):
        raise Refused("the module of module-path can't be read", "install the vendor's library, or correct the path")
    try:
        library = pkcs11.lib(request["module"])
    except RuntimeError as error:
        if isinstance(error, pkcs11.PKCS11Error) and type(error) is not pkcs11.PKCS11Error:
            raise Refused(
                f"the module can't be started ({type(error).__name__})",
                "look at its configuration and the vendor's log",
                lasting=False,
            ) from None
        raise Refused(
            "the file of module-path is no PKCS#11 module that can be loaded",
            "name the vendor's library for this machine's processor",
        ) from None
    wanted: dict[str, str] = request["wanted"]
    present = [slot.get_token() for slot in library.get_slots(token_present=True)]
    tokens = [one for one in present if wanted.items() <= _attributes(library, one).items()]
    if not tokens:
        named = " and ".join(f"{name}=" for name in wanted)
        fix = f"plug it in or start it, and compare {named} with `pkcs11-tool --list-token-slots`"
        raise Refused("the token is not there", fix, lasting=False)
    if len(tokens) > 1:
        serials = ", ".join(_words(token.serial) for token in tokens[:_MOST_NAMED])
        raise Refused(f"{len(tokens)} tokens have that label", f"add serial= of the right one: {serials}")
    return tokens[0]


def _attributes(library: Any, token: Any) -> dict[str, str]:
    """Return what *token* is, by the names of RFC 7512 2.3."""
    slot = token.slot
    return {
        "token": token.label,
        "serial": _words(token.serial),
        "manufacturer": _words(token.manufacturer_id),
        "model": _words(token.model),
        "library-manufacturer": _words(library.manufacturer_id),
        "library-description": _words(library.library_description),
        "library-version": ".".join(map(str, library.library_version)),
        "slot-manufacturer": _words(slot.manufacturer_id),
        "slot-description": _words(slot.slot_description),
        "slot-id": str(slot.slot_id),
    }


def _words(part: str | bytes) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part  # by version of python-pkcs11


def _logged_in(token: Any, request: dict[str, Any], *, writing: bool = False) -> Any:
    """Return a session; never spend the last try before the token locks, for whoever starts us again and again."""
    flags = token.slot.get_token().flags  # as they are now: another process may have logged in meanwhile
    pin = request["pin"]
    if not flags & TokenFlag.LOGIN_REQUIRED:
        return token.open(rw=writing)
    if not pin:
        raise Refused("the token wants a PIN and none is configured", "set private_key_pin_file, or pin-source")
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise Refused(*_PIN[pkcs11.PinLocked], pin="withheld")
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        fix = "log in once by hand with the right PIN (`pkcs11-tool --login --list-objects`): that resets the count"
        raise Refused("one more wrong PIN locks the token, so it is not tried", fix, pin="withheld")
    try:
        return token.open(rw=writing, user_pin=pin)
    except tuple(_PIN) as error:
        raise Refused(*_PIN[type(error)], pin="refused") from None
    except pkcs11.UserPinNotInitialized:
        raise Refused("no user PIN was set", "set one with the vendor's tool (C_InitPIN)") from None


def _named(request: dict[str, Any]) -> list[tuple[str, Attribute, Any]]:
    named: list[tuple[str, Attribute, Any]] = []
    named += [("label", Attribute.LABEL, request["label"])] if request["label"] else []
    named += [("id", Attribute.ID, bytes.fromhex(request["key_id"]))] if request["key_id"] else []
    return named


def _private_key(session: Any, request: dict[str, Any]) -> Any:
    wanted = {attribute: value for _, attribute, value in _named(request)}
    found = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, **wanted}))
    if not found:
        others = [_label(one) for one in session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})]
        there = f"it has {', '.join(others[:_MOST_NAMED])}" if others else "it has no private key that this user sees"
        raise Refused(f"the token has no such private key; {there}", "correct object= or id=")
    if len(found) > 1:
        ids = ", ".join("%" + bytes(_attribute(one, Attribute.ID) or b"").hex("%") for one in found[:_MOST_NAMED])
        raise Refused(f"{len(found)} private keys have that name", f"add id= of the right one: {ids}")
    key = found[0]
    if key.key_type is not KeyType.RSA:
        raise Refused(
            f"the key is {key.key_type.name}, not RSA, and the bank's assertions are RS256 only", "make an RSA key"
        )
    if not _attribute(key, Attribute.SIGN):
        raise Refused("the key may not sign (CKA_SIGN is false)", "make a key for signing, or name another one")
    return key


def _described(session: Any, key: Any) -> dict[str, Any]:
    """Return the public half, from the private object or else from the public one with the same id."""
    for holder in (key, *_public_objects(session, key)):
        modulus, exponent = _attribute(holder, Attribute.MODULUS), _attribute(holder, Attribute.PUBLIC_EXPONENT)
        if modulus and exponent:
            extractable = bool(_attribute(key, Attribute.EXTRACTABLE))
            return {"modulus": modulus.hex(), "exponent": exponent.hex(), "extractable": extractable}
    raise Refused(
        "the token does not show the key's public half",
        "import the public key with the same id (`pkcs11-tool --write-object pub.der --type pubkey --id ID`)",
    )


def _public_objects(session: Any, key: Any) -> list[Any]:
    key_id = _attribute(key, Attribute.ID)
    return list(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: key_id})) if key_id else []


def _label(key: Any) -> str:
    label = str(_attribute(key, Attribute.LABEL) or "")
    return f'"{label}"' if label.isprintable() else "one with an unprintable label"


def _attribute(thing: Any, attribute: Attribute) -> Any:
    try:
        return thing[attribute]
    except pkcs11.PKCS11Error:  # it has none, or does not show it
        return None


if __name__ == "__main__":
    protect_memory()
    # A module that hangs while it is loaded holds Python's lock: the thread that reads stdin could not end us.
    end_with_parent()
    # The module may print; only answers may go where answers are read.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    main(sys.stdin.buffer, answers)
