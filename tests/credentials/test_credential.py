"""Credentials from their section of the configuration."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.credentials.client_assertion import AssertionSigner
from proxy.credentials.credential import (
    Credential,
    CredentialUnusable,
    read_private_file,
    read_secret_file,
)
from proxy.credentials.keys import load_certificate, thumbprint
from proxy.secret import Secret
from proxy.settings.credential import CredentialSection
from proxy.settings.models import validated
from tests.credentials.support_keys import make_pair, openssl

FILES = (
    "client_secret_file",
    "private_key_file",
    "private_key_passphrase_file",
    "certificate_file",
    "ca_file",
    "client_certificate_file",
    "client_key_file",
)


def section_of(**changes: Any) -> CredentialSection:
    """Return `[credentials.NAME]` with *changes*."""
    usual = {
        "client_id": "client",
        "token_url": "https://login.test/oauth2/token",
        "auth_method": "client_secret_basic",
    }
    return validated(CredentialSection, {"flavor": "basic", **usual, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two key pairs."""
    folder = tmp_path_factory.mktemp("keys")
    make_pair(folder)
    make_pair(folder, name="other")
    return folder


def load(section: CredentialSection, base: Path) -> Credential:
    """Load *section* as the credential `login`, its files absolute, as the settings make them, from *base*."""
    files: dict[str, Any] = {name: str(base / file) for name in FILES if (file := getattr(section, name))}
    return Credential.load(replace(section, **files), name="login")


def secret_file(base: Path, text: str | bytes, *, mode: int = 0o600) -> str:
    """Write a secret file and return its name."""
    (base / "secret").write_bytes(text if isinstance(text, bytes) else text.encode())
    (base / "secret").chmod(mode)
    return "secret"


# --- client secrets


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_secret_from_a_file(tmp_path: Path, method: str) -> None:
    """The secret is carried, never shown."""
    credential = load(section_of(auth_method=method, client_secret_file=secret_file(tmp_path, "s3cr3t\n")), tmp_path)

    assert credential.client_secret == Secret("s3cr3t")
    assert credential.signer is None
    assert "s3cr3t" not in repr(credential)
    assert repr(credential).startswith(f"<Credential login {method} ")


@pytest.mark.parametrize(
    ("text", "secret"),
    [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), (" a \n", " a "), ("a\r", "a\r"), ("ü", "ü")],
)
def test_one_trailing_newline_is_dropped(tmp_path: Path, text: str, secret: str) -> None:
    """Only one, and nothing else."""
    assert read_secret_file(tmp_path / secret_file(tmp_path, text)).reveal() == secret


def test_a_secret_from_the_environment(tmp_path: Path) -> None:
    """No file is needed."""
    assert load(section_of(client_secret=Secret("s3cr3t")), tmp_path).client_secret == Secret("s3cr3t")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_an_open_secret_file_is_refused(tmp_path: Path, mode: int) -> None:
    """Group and others have no business with it; the message says what to run."""
    with pytest.raises(CredentialUnusable, match="chmod 600") as caught:
        load(section_of(client_secret_file=secret_file(tmp_path, "s3cr3t", mode=mode)), tmp_path)

    assert "s3cr3t" not in str(caught.value)
    assert str(caught.value).startswith("credential login: ")


@pytest.mark.parametrize(
    ("text", "words"), [("", "is empty"), ("\n", "is empty"), (b"\xff\xfe", "no UTF-8"), ("x" * 70000, "larger than")]
)
def test_a_secret_file_that_holds_no_secret(tmp_path: Path, text: str | bytes, words: str) -> None:
    """What can't be a secret is named without being quoted."""
    with pytest.raises(CredentialUnusable, match=words):
        load(section_of(client_secret_file=secret_file(tmp_path, text)), tmp_path)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    """Missing files, folders and pipes are refused, and a pipe doesn't hang the start."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", "", "pipe"):
        with pytest.raises(CredentialUnusable, match=str(tmp_path)):
            read_private_file(tmp_path / name)


def test_a_symbolic_link_is_judged_by_its_target(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links."""
    secret_file(tmp_path, "s3cr3t", mode=0o644)
    (tmp_path / "link").symlink_to("secret")

    with pytest.raises(CredentialUnusable, match="0644"):
        read_private_file(tmp_path / "link")


def test_without_any_secret(tmp_path: Path) -> None:
    """The message names both settings."""
    with pytest.raises(CredentialUnusable, match="client_secret_file or client_secret"):
        load(section_of(), tmp_path)


def test_the_fingerprint_follows_the_secret(tmp_path: Path) -> None:
    """Same secret, same fingerprint on each replica; another secret or client, another one."""
    one = load(section_of(client_secret="a"), tmp_path).fingerprint
    again = load(section_of(client_secret="a"), tmp_path).fingerprint
    other = load(section_of(client_secret="b"), tmp_path).fingerprint
    stranger = load(section_of(client_secret="a", client_id="other"), tmp_path).fingerprint

    assert one == again
    assert len({one, other, stranger}) == 3
    assert len(one) == 16


# --- private keys


def test_the_kid_is_the_certificates_thumbprint(folder: Path) -> None:
    """In the configured form, unless key_id says otherwise."""
    certificate = load_certificate(folder / "oauth.crt")
    section = section_of(auth_method="private_key_jwt", private_key_file="oauth.key", certificate_file="oauth.crt")

    credential = load(section, folder)
    assert isinstance(credential.signer, AssertionSigner)
    assert credential.key_id == thumbprint(certificate, "sha1-hex")
    section = replace(section, key_id_format="x5t#S256")
    assert load(section, folder).key_id == thumbprint(certificate, "x5t#S256")
    section = replace(section, key_id="mine")
    assert load(section, folder).key_id == "mine"
    section = replace(section, certificate_file="")
    assert load(section, folder).key_id == "mine"


def test_the_audience_of_assertions_is_the_token_url(folder: Path) -> None:
    """Exactly as it is posted to, unless it is set (RFC 7523 3)."""
    section = section_of(auth_method="private_key_jwt", private_key_file="oauth.key", key_id="K")

    assert load(section, folder).assertion_audience == "https://login.test/oauth2/token"
    section = replace(section, assertion_audience="https://login.test/other")
    assert load(section, folder).assertion_audience == "https://login.test/other"


def test_an_encrypted_key_takes_its_passphrase_from_a_file(folder: Path) -> None:
    """Passphrase files are secret files too."""
    openssl("pkcs8", "-topk8", "-in", folder / "oauth.key", "-out", folder / "locked.key", "-passout", "pass:open")
    (folder / "locked.key").chmod(0o600)
    (folder / "passphrase").write_text("open\n")
    (folder / "passphrase").chmod(0o600)
    section = section_of(
        auth_method="private_key_jwt",
        private_key_file="locked.key",
        private_key_passphrase_file="passphrase",
        certificate_file="oauth.crt",
    )

    plain = section_of(auth_method="private_key_jwt", private_key_file="oauth.key", certificate_file="oauth.crt")
    assert load(section, folder).fingerprint == load(plain, folder).fingerprint
    (folder / "passphrase").chmod(0o640)
    with pytest.raises(CredentialUnusable, match="chmod 600"):
        load(section, folder)


def test_a_certificate_of_another_key_is_refused(folder: Path) -> None:
    """The bank would refuse every assertion."""
    section = section_of(auth_method="private_key_jwt", private_key_file="oauth.key", certificate_file="other.crt")

    with pytest.raises(CredentialUnusable, match=r"other\.crt belongs to another key"):
        load(section, folder)


def test_what_private_key_jwt_needs(folder: Path) -> None:
    """A key, and a certificate or a kid; what keys.py finds comes out as the same error."""
    for section, words in (
        (section_of(auth_method="private_key_jwt", key_id="K"), "needs private_key_file"),
        (section_of(auth_method="private_key_jwt", private_key_file="oauth.key"), "needs certificate_file"),
        (
            section_of(auth_method="private_key_jwt", private_key_file="none.key", key_id="K"),
            "credential login: .*none.key",
        ),
    ):
        with pytest.raises(CredentialUnusable, match=words):
            load(section, folder)


# --- the rest


def test_tls_client_auth_is_known_by_its_certificate(folder: Path) -> None:
    """It needs certificate and key, and its fingerprint is the certificate's."""
    section = section_of(
        auth_method="tls_client_auth", client_certificate_file="oauth.crt", client_key_file="oauth.key"
    )

    credential = load(section, folder)
    assert (credential.client_certificate_file, credential.client_key_file) == (
        str(folder / "oauth.crt"),
        str(folder / "oauth.key"),
    )
    assert thumbprint(load_certificate(folder / "oauth.crt"), "sha256-hex").lower().startswith(credential.fingerprint)
    with pytest.raises(CredentialUnusable, match="needs client_certificate_file"):
        load(section_of(auth_method="tls_client_auth"), folder)


def test_a_transport_certificate_goes_with_any_method(folder: Path) -> None:
    """Mutual TLS beside a secret is possible, half of it is not, and its key is as private as others."""
    section = section_of(client_secret="s", client_certificate_file="oauth.crt", client_key_file="other.key")
    assert load(section, folder).client_key_file
    (folder / "other.key").chmod(0o644)
    with pytest.raises(CredentialUnusable, match="chmod 600"):
        load(section, folder)
    (folder / "other.key").chmod(0o600)
    section = replace(section, client_key_file="")
    with pytest.raises(CredentialUnusable, match="go together"):
        load(section, folder)


@pytest.mark.parametrize("name", ["grant_type", "scope", "client_id", "client_assertion", "client_secret", "resource"])
def test_reserved_parameters_are_refused(tmp_path: Path, name: str) -> None:
    """A second value would make the request ambiguous."""
    section = section_of(client_secret="s", audience_parameter="resource", extra_parameters={"a": "b", name: "x"})

    with pytest.raises(CredentialUnusable, match=name):
        load(section, tmp_path)


def test_everything_else_is_taken_over(tmp_path: Path) -> None:
    """Values as they are, files absolute, the empty name stays empty."""
    section = section_of(
        client_secret="s",
        extra_parameters={"b": "1", "a": "2"},
        ca_file="ca.pem",
        egress_proxy="http://p:1",
        timeout=3.0,
    )
    credential = load(section, tmp_path)

    assert credential.extra_parameters == (("b", "1"), ("a", "2"))
    assert credential.ca_file == str(tmp_path / "ca.pem")
    assert (credential.egress_proxy, credential.timeout, credential.default_lifetime) == ("http://p:1", 3, 300)
    assert credential.client_certificate_file == ""
