"""A configuration without findings, and what the tests change in it."""

from collections.abc import Mapping
from pathlib import Path

from proxy.settings.findings import Finding
from proxy.settings.load import load
from proxy.settings.loaded import Loaded

# Lines are counted by the tests: environment stands on line 1.
PLAIN = """\
environment = "client-testing"

[server]
listen = "127.0.0.1:8080"

[admin]
listen = "127.0.0.1:9901"

[upstreams.payments]
url = "https://api.payments.jpmorgan.com"

[credentials.login]
flavor = "basic"
client_id = "my-client"
client_secret_file = "secret"

[[routes]]
name = "payments"
path = "/payment/v2"
upstream = "payments"
credential = "login"
"""

CALLER = """
[callers.erp]
networks = ["10.20.0.0/16"]
api_key_sha256 = ["abababababababababababababababababababababababababababababababab"]
"""


def plain(*changes: tuple[str, str], more: str = "") -> str:
    """Return the plain configuration with *changes* (old text, new text) made, and *more* at its end."""
    text = PLAIN
    for old, new in changes:
        assert old in text, f"{old!r} is not in the plain configuration"
        text = text.replace(old, new, 1)
    return text + more


def load_text(
    folder: Path, text: str, *, environ: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None
) -> Loaded:
    """Write *text* to payproxy.toml in *folder* and load it from there."""
    (folder / "payproxy.toml").write_text(text)
    return load(None, environ=environ or {}, cwd=folder, flags=flags, secrets_directory=folder / "run-secrets")


def one_finding(loaded: Loaded) -> Finding:
    """Return the only finding."""
    assert len(loaded.findings) == 1, "\n".join(map(str, loaded.findings)) or "no findings"
    return loaded.findings[0]
