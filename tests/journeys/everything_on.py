"""Two replicas with all that payproxy can do turned on, and a canary wherever it is given a secret."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from proxy.simulator.clients import AUDIENCES, RESOURCES
from proxy.simulator.server import Bank
from tests.credentials.support_keys import make_pair, openssl
from tests.journeys.canaries import Canary
from tests.journeys.echoing import TOKEN_ANSWERS, Echo
from tests.journeys.support import TOKEN_PATH, private
from tests.support.softhsm import PIN, Token

CLIENT, ADFS_CLIENT, BASIC_CLIENT, LISTED_CLIENT = "canary-modern", "canary-adfs", "canary-basic", "canary-listed"
CALLER_KEY, OLD_CALLER_KEY = 'canary-key-of-caller-erp+/="&1', "canary-key-of-caller-old-2~"
OTLP_KEY = "canary-of-the-collectors-api-key"
FACADE_PATH = "/adfs/oauth2/token"
# What a configuration has at the wrong place, or in a line that is no TOML.
MISPLACED = "canary-of-a-secret-in-the-wrong-place"

_TEXTS = {
    "client secret": 'canary of/a+client"secret&<1>=',
    "client secret of the environment": "canary/of+the=environment%&secret",
    "key passphrase": 'canary of a "passphrase" & more',
    "Redis password": "canary/redis+password@:1",
    "PostgreSQL password": "canary/postgres+password@:1",
    "state encryption key": hashlib.sha256(b"canary of the state").hexdigest(),
    "facade signing key": "canary-of-the-facades-signing-key-0123456789",
    "body HMAC key": "canary-of-the-key-of-the-bodies-0123456789",
}
_SCRYPT_SALT, _SCRYPT_PASSWORD = b"canary-of-a-salt", b"canary-of-an-operators-password"

_CONFIGURATION = """\
environment = "mock"
instance = "{name}"
data_directory = "data"

[server]
listen = "127.0.0.1:0"
workers = {workers}
trusted_proxies = ["127.0.0.0/8"]

[admin]
listen = "127.0.0.1:0"
operators = {{ alice = "{scrypt}" }}

[request_log]
stdout = {stdout}
{database}
file = "requests.jsonl"
body_hmac_key_file = "{secrets}/hmac.key"

[state]
url_file = "{secrets}/redis.url"
encryption_key_files = ["{secrets}/state.key"]

[facade]
paths = ["{facade}"]
signing_key_files = ["{secrets}/facade.key"]

[callers.erp]
api_key_sha256 = ["{erp}"]
facade_client_id = "erp"

[callers.old-erp]
api_key_sha256 = ["{old_erp}"]
facade_client_id = "old-erp"
assertion_certificate_files = ["{secrets}/caller.crt"]

[upstreams.simulator]
url = "{bank}"

[upstreams.echo]
url = "{echo}"

[upstreams.mutual]
url = "https://localhost:{bank_port}"
client_certificate_file = "{secrets}/transport.crt"
client_key_file = "{secrets}/transport.key"

[credentials.old]
flavor = "adfs"
client_id = "{adfs_client}"
token_url = "{bank}/adfs/oauth2/token"
assertion_audience = "{direct}/adfs/oauth2/token"
private_key_file = "{secrets}/locked.key"
private_key_passphrase_file = "{secrets}/passphrase"
certificate_file = "{secrets}/plain.crt"

[credentials.new]
flavor = "jwt"
client_id = "{client}"
token_url = "{bank}/oauth2/token"
assertion_audience = "{direct}/oauth2/token"
private_key_uri = "{key_uri}"
certificate_file = "{secrets}/token.crt"

[credentials.basic]
flavor = "basic"
client_id = "{basic_client}"
client_secret_file = "{secrets}/client.secret"
token_url = "{bank}{token_path}"

[credentials.listed]
flavor = "basic"
client_id = "{listed_client}"
token_url = "{bank}{token_path}"

[[routes]]
name = "payments"
path = "/payment/v2"
upstream = "simulator"
credential = "old"
audience = "{resource}"
signature = {{ private_key_file = "{secrets}/signature.key", certificate_file = "{secrets}/signature.crt" }}

[[routes]]
name = "hello"
path = "/payment/helloworld"
upstream = "simulator"
credential = "basic"

[[routes]]
name = "listed"
path = "/listed"
strip_prefix = "/listed"
upstream = "simulator"
credential = "listed"

[[routes]]
name = "mirror"
path = "/mirror/opaque"
upstream = "echo"
credential = "basic"

[[routes]]
name = "mirror-jwt"
path = "/mirror/jwt"
upstream = "echo"
credential = "new"
audience = "{audience}"

[[routes]]
name = "mutual"
path = "/mutual"
upstream = "mutual"
credential = "basic"

[migrations.payments]
routes = ["payments"]
legacy = {{ credential = "old", audience = "{resource}" }}
modern = {{ credential = "new", audience = "{audience}" }}
max_failure_ratio = 1.0
max_client_error_ratio = 1.0
"""

_ECHOED = """
[credentials.echo-{answer}-{flavor}]
flavor = "{flavor}"
client_id = "{client}"
token_url = "{echo}/token/{answer}"
{key}

[[routes]]
name = "echo-{answer}-{flavor}"
path = "/echo/{answer}-{flavor}"
upstream = "echo"
credential = "echo-{answer}-{flavor}"
"""


@dataclass(kw_only=True)
class Site:
    """A folder with the secrets, and where the peers are."""

    folder: Path
    bank: Bank
    echo: Echo
    token: Token
    redis_port: int
    postgres_port: int

    @property
    def secrets(self) -> Path:
        """Return the folder of the files that have a canary on purpose."""
        return self.folder / "secrets"

    def plant(self) -> None:
        """Write all files with secrets."""
        self.secrets.mkdir()
        for name in ("plain", "token", "transport", "caller", "signature"):
            make_pair(self.secrets, name=name)
        self.token.import_key(self.secrets / "token.key", label="oauth")
        for name, text in {
            "client.secret": _TEXTS["client secret"],
            "passphrase": _TEXTS["key passphrase"],
            "state.key": _TEXTS["state encryption key"],
            "facade.key": _TEXTS["facade signing key"],
            "hmac.key": _TEXTS["body HMAC key"],
            "redis.url": f"redis://:{quote(_TEXTS['Redis password'], safe='')}@127.0.0.1:{self.redis_port}/0",
            "postgres.url": self.postgres_url(),
        }.items():
            private(self.secrets / name, text)
        locked = self.secrets / "locked.key"
        openssl(
            "pkcs8",
            "-topk8",
            "-in",
            self.secrets / "plain.key",
            "-out",
            locked,
            "-passout",
            f"file:{self.secrets / 'passphrase'}",
        )
        locked.chmod(0o600)

    def register(self) -> None:
        """Make the bank know the clients."""
        certificate, in_token = (self.secrets / f"{name}.crt" for name in ("plain", "token"))
        world = self.bank.world
        world.require_signature("/payment/v2", (self.secrets / "signature.crt").read_bytes())
        world.register_adfs_client(ADFS_CLIENT, certificate.read_bytes())
        world.register_jwt_client(CLIENT, in_token.read_bytes())
        world.register_secret_client(BASIC_CLIENT, _TEXTS["client secret"])
        world.register_secret_client(LISTED_CLIENT, _TEXTS["client secret of the environment"], jwt_tokens=True)

    def text(self, name: str) -> str:
        """Return the canary of this name."""
        return next(canary.value.decode() for canary in self.canaries() if canary.name == name)

    def postgres_url(self) -> str:
        """Return the URL of the database with its password."""
        password = quote(_TEXTS["PostgreSQL password"], safe="")
        return f"postgresql://canary:{password}@127.0.0.1:{self.postgres_port}/postgres"

    def environment(self, collector: str) -> dict[str, str]:
        """Return what `serve` and commands have in their environment."""
        return {
            **self.token.environment,
            "PAYPROXY_CREDENTIALS__LISTED__CLIENT_SECRET": _TEXTS["client secret of the environment"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={OTLP_KEY}",
            "TMPDIR": str(self.folder / "temporary"),
        }

    def write(self, name: str, *, workers: int, bank_url: str, in_postgres: bool) -> Path:
        """Write the configuration of the replica *name* and return its path."""
        (self.folder / name).mkdir()
        (self.folder / "temporary").mkdir(exist_ok=True)
        database = (
            f'database_file = "{self.secrets}/postgres.url"' if in_postgres else 'database = "sqlite:requests.db"'
        )
        text = _CONFIGURATION.format(
            name=name, workers=workers, scrypt=scrypt_hash(), stdout=str(not in_postgres).lower(), database=database,
            secrets=self.secrets, facade=FACADE_PATH, erp=_sha256(CALLER_KEY), old_erp=_sha256(OLD_CALLER_KEY),
            bank=bank_url, direct=self.bank.url, bank_port=bank_url.rpartition(":")[2], echo=self.echo.url,
            adfs_client=ADFS_CLIENT, client=CLIENT, basic_client=BASIC_CLIENT, listed_client=LISTED_CLIENT,
            token_path=TOKEN_PATH, key_uri=self.token.uri(), resource=RESOURCES["payments"],
            audience=AUDIENCES["payments"],
        )  # fmt: skip
        path = self.folder / name / "payproxy.toml"
        path.write_text(text + "".join(self._echoed()))
        return path

    def canaries(self) -> list[Canary]:
        """Return all that was planted, but for what is made while it runs."""
        found = [Canary.of(name, text) for name, text in _TEXTS.items()]
        found += [
            Canary.of("caller key", CALLER_KEY),
            Canary.of("other caller's key", OLD_CALLER_KEY),
            Canary.of("key of the OTLP collector", OTLP_KEY),
            Canary.of("misplaced secret", MISPLACED),
            Canary.of("PIN", PIN),
            Canary.of("operator's hash", scrypt_hash()),
            Canary("operator's password", _SCRYPT_PASSWORD),
        ]
        for name in ("plain", "token", "transport", "signature"):
            found += _of_key(name, self.secrets / f"{name}.key")
        return found

    def _echoed(self) -> Iterator[str]:
        """Yield a credential and a rule for each answer of the echo, by secret and by key."""
        keys = {
            "basic": (BASIC_CLIENT, f'client_secret_file = "{self.secrets}/client.secret"'),
            "jwt": (
                CLIENT,
                f'private_key_file = "{self.secrets}/plain.key"\ncertificate_file = "{self.secrets}/plain.crt"',
            ),
        }
        for answer in TOKEN_ANSWERS:
            for flavor, (client, key) in keys.items():
                yield _ECHOED.format(answer=answer, flavor=flavor, client=client, echo=self.echo.url, key=key)


def scrypt_hash() -> str:
    """Return the hash of an operator's password."""
    digest = hashlib.scrypt(_SCRYPT_PASSWORD, salt=_SCRYPT_SALT, n=16384, r=8, p=1)
    parts = (base64.b64encode(part).decode().rstrip("=") for part in (_SCRYPT_SALT, digest))
    return "$scrypt$ln=14,r=8,p=1$" + "$".join(parts)


def _of_key(name: str, path: Path) -> list[Canary]:
    """Return the canaries of a private key: its PEM, and its numbers as DER has them."""
    pem = path.read_bytes()
    key = load_pem_private_key(pem, None)
    assert isinstance(key, RSAPrivateKey)
    numbers = key.private_numbers()
    body = b"".join(pem.splitlines()[2:-1])
    parts = {"PEM": body, "line of the PEM": pem.splitlines()[5]}
    parts |= {letter: getattr(numbers, letter).to_bytes(128 if letter != "d" else 256, "big") for letter in "pqd"}
    return [Canary(f"{part} of the {name} key", value) for part, value in parts.items()]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
