"""A token endpoint that misbehaves on demand, on a real socket, and what else these tests share."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from proxy.credentials.credential import Credential
from proxy.credentials.token_key import TokenKey
from proxy.events import Event
from proxy.secret import Secret
from tests.upstream.certificates import strict

KEY = TokenKey(
    token_url="https://login.test/oauth2/token",
    client_id="client",
    auth_method="client_secret_basic",
    audience_parameter="audience",
    audience="jpm:uri:test",
    scope="",
    credential="login",
)


class FixedEntropy:
    """Chance without chance: `uniform` returns a set share of the range, `token_bytes` count up."""

    def __init__(self, share: float = 0.0) -> None:
        self.share = share
        self._count = 0

    def token_bytes(self, size: int) -> bytes:
        """Return a different value each time."""
        self._count += 1
        return self._count.to_bytes(size, "big")

    def uniform(self, low: float, high: float) -> float:
        """Return the set share of the way from *low* to *high*."""
        return low + (high - low) * self.share


@dataclass
class Asked:
    """One token request as it arrived."""

    head: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return the header fields, names in lower case."""
        pairs = (line.split(": ", 1) for line in self.head.split("\r\n")[1:] if line)
        return {name.lower(): value for name, value in pairs}

    @property
    def form(self) -> dict[str, str]:
        """Return the decoded form."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))


Misdeed = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Endpoint:
    """What the endpoint was asked, and what it answers: each of *answers* once, the last one for ever."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    answers: list[bytes | Misdeed] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take requests of one connection until the peer has had enough."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                asked = Asked(head, b"")
                asked.body = await reader.readexactly(int(asked.headers.get("content-length", "0")))
                self.asked.append(asked)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(answer):
                    await answer(writer)
                else:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def token_endpoint(*answers: bytes | Misdeed, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    """Listen on loopback with *answers*."""
    endpoint = Endpoint(answers=list(answers) or [token()])
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(endpoint.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    endpoint.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/oauth2/token"
    try:
        yield endpoint
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def answer(body: bytes | str, *, status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """Return a complete answer; `_` in header names stands for `-`."""
    body = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": kind, "Content-Length": str(len(body))} if kind else {"Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Something\r\n{lines}\r\n".encode() + body


def token(value: str = "abc.DEF-123", *, date: str = "") -> bytes:
    """Return a good answer."""
    body = json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": 3600})
    return answer(body, Date=date) if date else answer(body)


def refusal(error: str = "invalid_client", description: str = "no", *, status: int = 401, date: str = "") -> bytes:
    """Return a refusal (RFC 6749 5.2)."""
    body = json.dumps({"error": error, "error_description": description})
    return answer(body, status=status, Date=date) if date else answer(body, status=status)


def credential(url: str = "http://127.0.0.1:1/token", **changes: object) -> Credential:
    """Return a Basic credential for *url*, with *changes*."""
    fields: dict[str, object] = {
        "name": "login",
        "token_url": url,
        "client_id": "client",
        "auth_method": "client_secret_basic",
        "client_secret": Secret("canary-secret"),
        "timeout": 5.0,
        "key_fingerprint": "0" * 16,
    }
    return Credential(**(fields | changes))  # type: ignore[arg-type]


class Events(list[Event]):
    """An observer that remembers."""

    def __call__(self, event: Event) -> None:
        """Remember *event*."""
        self.append(event)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A certificate and its key, as PEM files."""

    certificate: Path
    key: Path


def make_tls(folder: Path) -> tuple[Path, Identity, Identity]:
    """Return the file of a CA, and a server's (127.0.0.1) and a client's identity that it issued."""
    ca_key = rsa.generate_private_key(65537, 2048)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private CA")])
    ca = _certificate(ca_name, ca_key, ca_name, ca_key, ca=True)
    ca_file = folder / "ca.crt"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made = []
    for name in ("server", "client"):
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _certificate(subject, key, ca_name, ca_key, ca=False)
        identity = Identity(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        identity.key.write_bytes(pem)
        identity.key.chmod(0o600)
        made.append(identity)
    return ca_file, made[0], made[1]


def _certificate(
    subject: x509.Name, key: rsa.RSAPrivateKey, issuer: x509.Name, issuer_key: rsa.RSAPrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(names, critical=False)
    )
    return strict(builder, key, issuer_key, ca=ca).sign(issuer_key, hashes.SHA256())
