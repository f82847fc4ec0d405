"""`payproxy keys renew`: two certificates side by side at the bank, and never one in use that was not proven."""

import json
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cli.pair_files import PairFiles
from proxy.credentials.keys import belong_together, load_certificate, load_private_key
from proxy.secret import Secret
from tests.cli.renewing import contents, renew
from tests.cli.serving import Site, command, make_pair, serving, site
from tests.credentials.support_keys import openssl


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Site]:
    """A configuration whose certificate the bank knows."""
    async with site(tmp_path) as made:
        yield made


async def test_a_certificate_is_renewed_in_two_runs(place: Site) -> None:
    """Made, uploaded beside the old one, proven by a mint, used; the running proxy takes it and loses nothing."""
    async with serving(place):
        await place.ready()
        before = contents(place.folder)
        code, said = await renew(place)
        assert code == 0, said
        assert "Upload" in said
        assert "Leave the\n   old one there" in said
        made = contents(place.folder)
        assert made["oauth.key"] == before["oauth.key"]
        assert stat.S_IMODE((place.folder / "oauth.key.new").stat().st_mode) == 0o600
        new, old = (load_certificate(place.folder / name) for name in ("oauth.crt.new", "oauth.crt"))
        assert new.subject == old.subject
        assert new.not_valid_after_utc > old.not_valid_after_utc
        assert new.public_key() != old.public_key()

        place.register(before["oauth.crt"] + made["oauth.crt.new"])
        mints = place.bank.world.mint_count()
        code, said = await renew(place)
        assert code == 0, said
        line = await place.logged("credential login replaced")
        assert "proven by a mint" in line
        assert place.bank.world.mint_count() == mints + 2  # ours, and the running proxy's own

    after = contents(place.folder)
    assert after == {
        "oauth.crt": made["oauth.crt.new"],
        "oauth.crt.old": before["oauth.crt"],
        "oauth.key": made["oauth.key.new"],
        "oauth.key.old": before["oauth.key"],
    }


async def test_an_upload_that_was_forgotten(place: Site) -> None:
    """The bank refuses the new pair, the old one stays in use, and a later run goes on with the same pair."""
    await renew(place)
    made = contents(place.folder)
    code, said = await renew(place)

    assert code == 1
    assert "upload it, wait until the portal shows it, and run this again; the old pair stays in use" in said
    assert contents(place.folder) == made
    place.register(made["oauth.crt"] + made["oauth.crt.new"])
    code, said = await renew(place)
    assert code == 0, said


async def test_a_bank_that_is_away(place: Site) -> None:
    """Nothing is used that was not proven; the exit code says that trying again may help."""
    await renew(place)
    made = contents(place.folder)
    place.write(token_url="http://127.0.0.1:9/oauth2/token")
    code, said = await renew(place)

    assert code == 69
    assert "the new pair could not be proven" in said
    assert contents(place.folder) == made


async def test_a_certificate_of_another_key_is_not_taken(place: Site) -> None:
    """A .new certificate alone, whose key is nowhere."""
    (place.folder / "oauth.crt.new").write_bytes(make_pair(place.folder, "stray"))
    code, said = await renew(place)

    assert code == 1
    assert "oauth.crt.new has no key; remove it" in said


async def test_an_encrypted_key_stays_encrypted(place: Site) -> None:
    """With the same passphrase."""
    key = place.folder / "oauth.key"
    openssl("pkcs8", "-topk8", "-in", key, "-out", f"{key}.enc", "-passout", "pass:s3cret")
    os.replace(f"{key}.enc", key)  # noqa: PTH105 - as above
    (place.folder / "pass").touch(mode=0o600)
    (place.folder / "pass").write_text("s3cret")
    place.write(credential='private_key_passphrase_file = "pass"')
    code, said = await renew(place)

    assert code == 0, said
    assert b"ENCRYPTED" in (place.folder / "oauth.key.new").read_bytes()
    made = load_private_key(place.folder / "oauth.key.new", passphrase=Secret("s3cret"))
    assert belong_together(made, load_certificate(place.folder / "oauth.crt.new"))


@pytest.mark.parametrize("case", ["authority", "key_id", "link", "token"])
async def test_what_this_command_can_not_renew(place: Site, case: str) -> None:
    """The way that remains is said, and nothing is written."""
    match case:
        case "authority":
            ca = make_pair(place.folder, "ca")
            (place.folder / "request.pem").write_text(
                openssl("req", "-new", "-key", place.folder / "oauth.key", "-subj", "/CN=me")
            )
            signed = openssl(
                *("x509", "-req", "-in", place.folder / "request.pem", "-days", "9"),
                *("-CA", place.folder / "ca.crt", "-CAkey", place.folder / "ca.key", "-CAcreateserial"),
            )
            assert ca
            (place.folder / "oauth.crt").write_text(signed)
            words = "is signed by an authority: make a request with `payproxy keys new --csr`"
        case "key_id":
            place.write(credential='key_id = "K"')
            words = "has key_id, which names the old certificate"
        case "link":
            (place.folder / "oauth.crt").rename(place.folder / "..data")
            (place.folder / "oauth.crt").symlink_to("..data")
            words = "is a link, as Kubernetes makes them"
        case _:
            place.write(key="gone")
            text = place.config.read_text().replace(
                'private_key_file = "gone.key"', 'private_key_uri = "pkcs11:token=t;object=o?module-path=/m.so"'
            )
            place.config.write_text(text)
            words = "is in a token: make the next one with `payproxy keys new --pkcs11`"
    code, said = await renew(place)

    assert code == 1
    assert words in said
    assert not list(place.folder.glob("*.new"))


async def test_the_state_as_json(place: Site) -> None:
    """For scripts."""
    done = await command("keys", "renew", "login", "--config", place.config, "--json")

    value = json.loads(done.stdout)
    assert value["state"] == "made"
    assert len(value["key_id"]) == 40


async def test_an_unknown_credential(place: Site) -> None:
    """The known ones are said."""
    done = await command("keys", "renew", "logn", "--config", place.config)

    assert done.exit_code == 2
    assert "login" in done.stderr


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (
            'private_key_file = "sign.key", certificate_file = "sign.crt"',
            r"in the place of \S+sign\.key and \S+sign\.crt",
        ),
        ('signer_command = ["/bin/sign"], certificate_file = "sign.crt"', "in the configuration, and send SIGHUP"),
    ],
)
async def test_a_key_for_bodies_is_renewed_by_hand(place: Site, signature: str, said: str) -> None:
    """No mint proves it: the command says what to do, and changes nothing."""
    make_pair(place.folder, "sign")
    place.config.write_text(f"{place.config.read_text()}signature = {{{signature}}}\n")
    before = contents(place.folder)

    done = await command("keys", "renew", "payments", "--config", place.config)

    assert done.exit_code == 1, done.stderr
    assert "payments is a rule that signs bodies" in done.stderr
    assert re.search(said, done.stderr)
    assert [line[:2] for line in done.stderr.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3.", "4."]
    assert contents(place.folder) == before


def test_the_last_pair_is_kept_once(tmp_path: Path) -> None:
    """An older .old is replaced."""
    for name in ("k", "c"):
        for suffix in ("", ".new", ".old"):
            (tmp_path / f"{name}{suffix}").write_text(f"{name}{suffix}")
    PairFiles(key=tmp_path / "k", certificate=tmp_path / "c").use_next()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "k": "k.new",
        "k.old": "k",
        "c": "c.new",
        "c.old": "c",
    }


def test_a_pair_in_use_is_not_kept_as_the_last_one(tmp_path: Path) -> None:
    """Who has copied the new files into use by hand keeps the pair that was used before."""
    for name in ("k", "c"):
        for suffix, text in (("", "new"), (".new", "new"), (".old", "old")):
            (tmp_path / f"{name}{suffix}").write_text(text)
    PairFiles(key=tmp_path / "k", certificate=tmp_path / "c").use_next()

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "k": "new",
        "k.old": "old",
        "c": "new",
        "c.old": "old",
    }


_OTHER = """
[credentials.other]
flavor = "jwt"
client_id = "unknown"
private_key_file = "oauth.key"
certificate_file = "{certificate}"
token_url = "{token_url}"
[[routes]]
name = "other"
path = "/other"
upstream = "bank"
credential = "other"
audience = "jpm:uri:prod:payments"
"""


async def test_a_pair_of_two_credentials_is_proven_for_both(place: Site) -> None:
    """The bank takes the new certificate for one of the clients only: nothing is used, and the other one is named."""
    other = _OTHER.format(certificate="oauth.crt", token_url=f"{place.bank.url}/oauth2/token")
    place.config.write_text(place.config.read_text() + other)
    await renew(place)
    made = contents(place.folder)
    place.register(made["oauth.crt"] + made["oauth.crt.new"])
    code, said = await renew(place)

    assert code == 1
    assert "oauth.crt.new for credential other" in said
    assert contents(place.folder) == made


@pytest.mark.parametrize("use", ["credential", "upstream"])
async def test_a_file_that_has_another_use(place: Site, use: str) -> None:
    """What no mint of this pair proves is not replaced by it; the other use is named."""
    make_pair(place.folder, "other")
    if use == "credential":
        other = _OTHER.format(certificate="other.crt", token_url=f"{place.bank.url}/oauth2/token")
        place.config.write_text(place.config.read_text() + other)
    else:
        place.write(upstream='client_certificate_file = "oauth.crt"\nclient_key_file = "oauth.key"')
    code, said = await renew(place)

    assert code == 1
    assert "give" in said
    assert ("credential other" if use == "credential" else "upstreams.bank") in said
    assert not list(place.folder.glob("*.new"))
