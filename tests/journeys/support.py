"""Configurations for journeys, and the secrets that must never be seen again."""

from pathlib import Path

from proxy.simulator.clients import MOCK_CLIENT_ID, MOCK_CLIENT_SECRET

TOKEN_PATH = "/am/oauth2/alpha/access_token"

_CONFIGURATION = """\
environment = "mock"
data_directory = "data"

[server]
listen = "127.0.0.1:0"
{server}

[admin]
listen = "127.0.0.1:0"

[request_log]
file = "requests.jsonl"
{request_log}

[upstreams.simulator]
url = "{bank}"

[credentials.mock]
{credential}

[[routes]]
name = "hello"
path = "/payment/helloworld"
methods = ["GET"]
upstream = "simulator"
credential = "mock"
{route}

[[routes]]
name = "payments"
path = "/payment/v2"
upstream = "simulator"
credential = "mock"
{route}
"""

_CREDENTIAL = """\
flavor = "basic"
client_id = "{client_id}"
client_secret_file = "mock.secret"
token_url = "{bank}{path}"
"""


def configured(
    directory: Path,
    bank: str,
    *,
    server: str = "",
    request_log: str = "",
    credential: str = "",
    route: str = "",
    secret: str = MOCK_CLIENT_SECRET,
) -> Path:
    """Write a configuration with the given lines in its tables, and return its path."""
    private(directory / "mock.secret", secret)
    credential = credential or _CREDENTIAL.format(client_id=MOCK_CLIENT_ID, bank=bank, path=TOKEN_PATH)
    path = directory / "payproxy.toml"
    path.write_text(
        _CONFIGURATION.format(server=server, request_log=request_log, bank=bank, credential=credential, route=route)
    )
    return path


def private(path: Path, text: str) -> Path:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path
