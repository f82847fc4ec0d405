"""The bank of the benchmark: nginx with TLS, which answers only to the right token; its certificate is made here."""

import datetime as dt
import ipaddress
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.machine import program, running
from bench.talk import WrongAnswer, ask, connected, free_port, request, trust, until_open

# As long as the bank's own (about 1,500 characters).
TOKEN = "bench." + "t" * 1494
SMALL_PATH, PAYMENT_PATH, FILES_PATH = "/bank/small", "/bank/payments", "/bank/files"
LARGE = "large"
_ANSWER_BYTES = 541
_STATUS_PATH = "/status"
PAYMENT = json.dumps({"amount": 1, "remittance": "x" * 991}).encode()

_CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log {directory}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_header_buffer_size 8k;
  client_max_body_size 0;
  client_body_temp_path {files}/incoming;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  default_type application/json;
  output_buffers 2 256k;
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096;
    ssl_certificate {directory}/bank.crt;
    ssl_certificate_key {directory}/bank.key;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    location = {status_path} {{ stub_status; }}
    location = /token {{
      return 200 '{{"access_token": "{token}", "token_type": "Bearer", "expires_in": 3600}}';
    }}
    location = {small_path} {{
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
      return 200 '{small}';
    }}
    location = {payment_path} {{
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
      return 200 '{payment}';
    }}
    location {files_path}/ {{
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
      alias {files}/;
      dav_methods PUT;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Count:
    """What the bank has seen since its start: *connections* accepted and *requests*."""

    connections: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """Where the bank is: *port* on loopback, the certificate to trust, its key, the folder in which its files lie."""

    port: int
    certificate: Path
    key: Path
    files: Path
    small: bytes
    payment: bytes

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"https://127.0.0.1:{self.port}"

    def count(self) -> Count:
        """Return what nginx counted (ngx_http_stub_status_module), this question included."""
        with trust(self.certificate).wrap_socket(connected(self.port), server_hostname="localhost") as connection:
            _, text = ask(connection, request("GET", _STATUS_PATH))
        found = re.search(rb"handled requests\s+(\d+) \d+ (\d+)", text)
        if found is None:
            raise WrongAnswer(f"the bank's own counters are missing: {text!r}")
        return Count(int(found[1]), int(found[2]))


@contextmanager
def bank(directory: Path, *, files: Path, large_bytes: int) -> Iterator[Bank]:
    """Run the bank on the load's core while the block lasts."""
    nginx = program("nginx", package="nginx-light")
    _certificate(directory)
    (files / LARGE).write_bytes(os.urandom(1048576) * (large_bytes // 1048576))
    small = _padded('{"status": "up", "filler": "')
    payment = _padded('{"received": "$content_length", "filler": "')
    port = free_port()
    configuration = directory / "bank.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory,
            files=files,
            port=port,
            token=TOKEN,
            small=small,
            payment=payment,
            small_path=SMALL_PATH,
            payment_path=PAYMENT_PATH,
            files_path=FILES_PATH,
            status_path=_STATUS_PATH,
            user=user_line(),
        )
    )
    with running([nginx, "-c", str(configuration)], log=directory / "bank.log") as process:
        until_open(port, process, log=directory / "bank.log")
        yield Bank(
            port=port,
            certificate=directory / "bank.crt",
            key=directory / "bank.key",
            files=files,
            small=small.encode(),
            payment=payment.replace("$content_length", str(len(PAYMENT))).encode(),
        )


def user_line() -> str:
    """Return the directive without which an nginx started by root could not read a private folder."""
    return "user root;" if os.geteuid() == 0 else ""


def _padded(text: str) -> str:
    return text + "x" * (_ANSWER_BYTES - len(text) - 2) + '"}'


def _certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=90))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "bank.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = directory / "bank.key"
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
