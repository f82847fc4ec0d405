"""A token of SoftHSM for tests, and a module in front of it that fails on demand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "4711-of-the-token"
needs_softhsm = pytest.mark.skipif(shutil.which("softhsm2-util") is None, reason="needs softhsm2")

# Runs in a process of its own: the tests' process never loads a module.
_PREPARE = """
import json, os, sys, pkcs11
from pkcs11 import Attribute, KeyType, ObjectClass, MechanismFlag
from pkcs11.util.ec import encode_named_curve_parameters
token = pkcs11.lib(sys.argv[1]).get_token(token_label=sys.argv[2])
session = token.open(rw=True, user_pin=sys.argv[3])
"""


class Token:
    """An initialised token with the label *name*; `environment` has to be that of every process that uses it."""

    def __init__(self, folder: Path, *, name: str = "payments") -> None:
        self.folder = folder
        self.name = name
        self.faults = folder / "faults"
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN)
        self.pin_file.chmod(0o600)
        (folder / "tokens").mkdir(mode=0o700)
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
        self.environment = {"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "FAULTY_PKCS11": str(self.faults)}
        self.initialise(name)

    def initialise(self, name: str) -> None:
        """Add a token with the label *name*."""
        self._util("--init-token", "--free", "--label", name, "--so-pin", "so-pin-0815", "--pin", PIN)

    def import_key(self, key: Path, *, label: str, key_id: str = "01") -> None:
        """Copy the PEM file *key* into the token."""
        self._util("--import", key, "--token", self.name, "--label", label, "--id", key_id, "--pin", PIN)

    def prepare(self, code: str) -> str:
        """Run *code* with `session`, a session that may write; return what it printed."""
        return _run([sys.executable, "-c", _PREPARE + code, MODULE, self.name, PIN], self.environment)

    def uri(self, label: str = "oauth", *, more: str = "", module: str | Path = MODULE, pin: bool = True) -> str:
        """Return the URI of the key *label*."""
        source = f"&pin-source=file:{self.pin_file}" if pin else ""
        return f"pkcs11:token={self.name};object={label}{more}?module-path={module}{source}"

    def take_away(self) -> None:
        """Remove the token, as pulling it out does."""
        (self.folder / "tokens").rename(self.folder / "away")
        (self.folder / "tokens").mkdir(mode=0o700)

    def bring_back(self) -> None:
        """Put the token back."""
        (self.folder / "tokens").rmdir()
        (self.folder / "away").rename(self.folder / "tokens")

    def fail(self, *faults: str) -> None:
        """Have the faulty module fail from now on: see faulty_pkcs11.c."""
        temporary = self.faults.with_suffix(".new")
        temporary.write_text("".join(f"{fault}\n" for fault in faults))
        temporary.rename(self.faults)

    @property
    def logins(self) -> int:
        """Return how often the faulty module was asked to log in."""
        noted = self.faults.with_name("faults.logins")
        return noted.stat().st_size if noted.exists() else 0

    @property
    def serial(self) -> str:
        """Return the token's serial number."""
        return self.prepare("print(token.serial.decode())").strip()

    def log_in_by_hand(self) -> None:
        """Log in with the right PIN, which clears the flags that tell of wrong ones."""
        self.prepare("")

    def change_pin(self, new: str) -> None:
        """Have the token take *new* from now on."""
        self.prepare(f"session.set_pin(sys.argv[3], {new!r})")

    def _util(self, *arguments: str | Path) -> None:
        _run(["softhsm2-util", *map(str, arguments)], self.environment)


def faulty_module(folder: Path) -> Path:
    """Compile the module that fails on demand, and return it."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    module = folder / "faulty.so"
    source = Path(__file__).with_name("faulty_pkcs11.c")
    _run(["gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-o", str(module), str(source), "-ldl"], {})
    return module


def labels(token: Token) -> list[str]:
    """Return the labels of the private keys in *token*."""
    code = "print(json.dumps([k.label for k in session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})]))"
    found: list[str] = json.loads(token.prepare(code))
    return found


def _run(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        arguments, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
