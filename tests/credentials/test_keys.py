import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from proxy.credentials.keys import (
    THUMBPRINT_FORMS,
    KeyUnusable,
    belong_together,
    load_certificate,
    load_private_key,
    thumbprint,
)
from proxy.secret import Secret
from tests.credentials.support_keys import make_pair, openssl

PASSPHRASE = "canary-passphrase"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one pair, for tests that only read it."""
    folder = tmp_path_factory.mktemp("keys")
    make_pair(folder)
    return folder


def number(key: RSAPrivateKey) -> int:
    """Return the modulus: what makes two keys the same."""
    return key.public_key().public_numbers().n


def refused(path: Path, *, passphrase: Secret | None = None) -> str:
    """Return the message with which *path* is refused as a private key, after looking for contents in it."""
    with pytest.raises(KeyUnusable) as caught:
        load_private_key(path, passphrase=passphrase)
    message = str(caught.value)
    assert str(path) in message
    assert PASSPHRASE not in message
    assert "MII" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


@pytest.mark.parametrize(
    ("arguments", "encrypted"),
    [
        (("rsa", "-traditional"), False),
        (("rsa", "-traditional", "-aes256", "-passout", f"pass:{PASSPHRASE}"), True),
        (("pkcs8", "-topk8", "-nocrypt"), False),
        (("pkcs8", "-topk8", "-v2", "aes256", "-passout", f"pass:{PASSPHRASE}"), True),
    ],
    ids=["pkcs1", "pkcs1-encrypted", "pkcs8", "pkcs8-encrypted"],
)
def test_every_pem_form_gives_the_same_key(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], *, encrypted: bool
) -> None:
    """PKCS#1 and PKCS#8, plain and encrypted, are all read, and an encrypted file refuses without its passphrase."""
    other = tmp_path / "other.key"
    openssl(*arguments, "-in", folder / "oauth.key", "-out", other)
    other.chmod(0o600)

    key = load_private_key(other, passphrase=Secret(PASSPHRASE))

    assert number(key) == number(load_private_key(folder / "oauth.key"))
    if encrypted:
        assert "private_key_passphrase_file" in refused(other)
        assert "passphrase is wrong" in refused(other, passphrase=Secret("not it"))
    else:
        assert number(load_private_key(other)) == number(key)


@pytest.mark.parametrize("password", [PASSPHRASE, ""])
def test_pkcs12_gives_key_and_certificate(folder: Path, tmp_path: Path, password: str) -> None:
    """A .p12 serves as key file and as certificate file, with a passphrase or an empty one."""
    store = tmp_path / "oauth.p12"
    source = ("-inkey", folder / "oauth.key", "-in", folder / "oauth.crt")
    openssl("pkcs12", "-export", *source, "-out", store, "-passout", f"pass:{password}")
    store.chmod(0o600)
    passphrase = Secret(password) if password else None

    key = load_private_key(store, passphrase=passphrase)
    certificate = load_certificate(store, passphrase=passphrase)

    assert belong_together(key, certificate)
    assert certificate == load_certificate(folder / "oauth.crt")
    if password:
        assert "passphrase is wrong" in refused(store, passphrase=Secret("not it"))
        assert "private_key_passphrase_file" in refused(store)
    store.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        load_certificate(store, passphrase=passphrase)


def test_pkcs12_without_a_key_is_refused(folder: Path, tmp_path: Path) -> None:
    """A .p12 that holds certificates only is no key file, and may be open to all."""
    store = tmp_path / "trust.p12"
    openssl("pkcs12", "-export", "-nokeys", "-in", folder / "oauth.crt", "-out", store, "-passout", "pass:")
    store.chmod(0o600)
    assert "no private key" in refused(store)
    store.chmod(0o644)
    assert load_certificate(store) == load_certificate(folder / "oauth.crt")


def test_elliptic_curve_key_is_refused(tmp_path: Path) -> None:
    """RS256 needs RSA: an EC key is told apart and refused, in either PEM form."""
    path = tmp_path / "ec.key"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", path)
    path.chmod(0o600)
    assert "not RSA" in refused(path)
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    assert "not RSA" in refused(path)


def test_short_key_is_refused(tmp_path: Path) -> None:
    """A key of fewer than 2048 bits is refused with its size."""
    key, _ = make_pair(tmp_path, bits=1024)
    assert "1024 bits" in refused(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_file_open_to_group_or_others_is_refused(folder: Path, tmp_path: Path, mode: int) -> None:
    """Any right of group or others refuses the key and names the command that mends it."""
    path = tmp_path / "open.key"
    path.write_bytes((folder / "oauth.key").read_bytes())
    path.chmod(mode)
    assert f"chmod 600 {path}" in refused(path)


def test_symlink_counts_as_its_target(folder: Path, tmp_path: Path) -> None:
    """Kubernetes mounts are links: the mode of the file at the end of the link decides."""
    link = tmp_path / "link.key"
    link.symlink_to(folder / "oauth.key")
    assert load_private_key(link).key_size == 2048

    target = tmp_path / "open.key"
    target.write_bytes((folder / "oauth.key").read_bytes())
    target.chmod(0o644)
    link.unlink()
    link.symlink_to(target)
    assert "chmod 600" in refused(link)


def test_every_half_written_key_is_refused(folder: Path, tmp_path: Path) -> None:
    """A file cut anywhere is refused, never half accepted."""
    whole = (folder / "oauth.key").read_bytes()
    path = tmp_path / "half.key"
    path.touch(mode=0o600)
    for cut in [1, 10, 27, 28, 100, len(whole) // 2, len(whole) - 30, len(whole) - 5]:
        path.write_bytes(whole[:cut])
        refused(path)
    path.write_bytes(b"")
    assert "empty" in refused(path)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"hunter2\n",
        b"\x30\x82\x01\x00",
        b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nMIIcanary!!\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    ],
)
def test_garbage_is_refused_without_being_shown(tmp_path: Path, garbage: bytes) -> None:
    """Whatever stands in the file, the message names the file and not what stands in it."""
    path = tmp_path / "garbage.key"
    path.touch(mode=0o600)
    path.write_bytes(garbage)
    for passphrase in [None, Secret(PASSPHRASE)]:
        message = refused(path, passphrase=passphrase)
        assert "hunter2" not in message
        assert "canary!!" not in message


def test_wrong_kind_of_file_is_named(folder: Path, tmp_path: Path) -> None:
    """Certificate and key swapped, a CSR, a public key, an OpenSSH key: each is told by name."""
    certificate = tmp_path / "swapped.crt"
    certificate.write_bytes((folder / "oauth.crt").read_bytes())
    certificate.chmod(0o600)
    assert "holds a certificate" in refused(certificate)
    with pytest.raises(KeyUnusable, match="holds a private key"):
        load_certificate(folder / "oauth.key")

    request, public = tmp_path / "r.csr", tmp_path / "p.pem"
    openssl("req", "-new", "-key", folder / "oauth.key", "-subj", "/CN=x", "-out", request)
    openssl("pkey", "-in", folder / "oauth.key", "-pubout", "-out", public)
    for path, name in [(request, "certificate request"), (public, "public key")]:
        path.chmod(0o600)
        assert name in refused(path)
        with pytest.raises(KeyUnusable, match=name):
            load_certificate(path)

    ssh = tmp_path / "id_rsa"
    ssh.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    ssh.chmod(0o600)
    assert "ssh-keygen" in refused(ssh)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe, a link to itself, a file too large: each gets a message, none hangs."""
    assert "no such file" in refused(tmp_path / "missing.key")
    assert "not a regular file" in refused(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert "not a regular file" in refused(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "can't be opened" in refused(loop)
    large = tmp_path / "large.key"
    large.touch(mode=0o600)
    large.write_bytes(b"-" * 65537)
    assert "larger than 65536" in refused(large)


def test_certificate_is_read_from_pem_der_and_chain(folder: Path, tmp_path: Path) -> None:
    """PEM, DER and a chain whose first certificate is the leaf give the same certificate; the mode may be open."""
    expected = load_certificate(folder / "oauth.crt")
    der, chain = tmp_path / "oauth.cer", tmp_path / "chain.pem"
    openssl("x509", "-in", folder / "oauth.crt", "-outform", "DER", "-out", der)
    _, issuer = make_pair(tmp_path, name="issuer")
    chain.write_bytes((folder / "oauth.crt").read_bytes() + issuer.read_bytes())
    for path in [der, chain]:
        path.chmod(0o644)
        assert load_certificate(path) == expected


def test_damaged_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    """A cut or garbled certificate is refused by name."""
    path = tmp_path / "half.crt"
    for data in [(folder / "oauth.crt").read_bytes()[:300], b"\x30\x03abc", b"nonsense"]:
        path.write_bytes(data)
        with pytest.raises(KeyUnusable, match=r"half\.crt"):
            load_certificate(path)


def test_key_beside_the_certificate_must_not_be_open(folder: Path, tmp_path: Path) -> None:
    """One file with both is fine at 0600 and refused as certificate file, too, when others may read the key."""
    both = tmp_path / "both.pem"
    both.write_bytes((folder / "oauth.crt").read_bytes() + (folder / "oauth.key").read_bytes())
    both.chmod(0o600)
    assert belong_together(load_private_key(both), load_certificate(both))
    both.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        load_certificate(both)


def test_belong_together_compares_the_public_key(folder: Path, tmp_path: Path) -> None:
    """A key belongs to its own certificate, not to another RSA one, not to an EC one."""
    key = load_private_key(folder / "oauth.key")
    _, other = make_pair(tmp_path, name="other")
    curve = tmp_path / "ec.crt"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ec"),
        *("-keyout", tmp_path / "ec.key", "-out", curve),
    )
    assert belong_together(key, load_certificate(folder / "oauth.crt"))
    assert not belong_together(key, load_certificate(other))
    assert not belong_together(key, load_certificate(curve))


def test_thumbprints_are_those_of_openssl(folder: Path) -> None:
    """All four forms agree with openssl's own digests of the certificate."""
    path = folder / "oauth.crt"
    certificate = load_certificate(path)
    sha1, sha256 = (
        openssl("x509", "-in", path, "-noout", "-fingerprint", f"-{digest}").partition("=")[2].strip().replace(":", "")
        for digest in ("sha1", "sha256")
    )
    encoded = [base64.urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=") for digest in (sha1, sha256)]

    assert [thumbprint(certificate, form) for form in THUMBPRINT_FORMS] == [sha1, *encoded, sha256]
    with pytest.raises(ValueError, match="sha1-hex, x5t"):
        thumbprint(certificate, "md5")
