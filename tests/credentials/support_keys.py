"""Keys and certificates made by openssl itself, so that two programs have to agree on them."""

import subprocess
from pathlib import Path


def openssl(*arguments: str | Path, data: bytes = b"") -> str:
    """Run openssl and return what it printed."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=True)  # noqa: S607 - the machine's openssl
    return done.stdout.decode()


def make_pair(folder: Path, *, name: str = "oauth", bits: int = 2048) -> tuple[Path, Path]:
    """Return a PKCS#8 key (0600) and its self-signed certificate."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    openssl(
        *("req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-days", "30", "-subj", f"/CN={name}"),
        *("-keyout", key, "-out", certificate),
    )
    key.chmod(0o600)
    return key, certificate
