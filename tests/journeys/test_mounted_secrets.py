"""Secrets as Kubernetes, systemd and Docker mount them, to a user that is not root: real users, ACLs and mounts."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.simulator.clients import AUDIENCES, Flavor
from proxy.simulator.server import Bank
from tests.cli.support import environment
from tests.credentials.support_keys import make_pair, openssl
from tests.journeys.caller import get
from tests.journeys.process import Instance
from tests.journeys.waiting import until
from tests.support.other_user import GROUP, USER, as_user, owned

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setfacl"), reason="needs root, and apt-get install acl"
)

_EVERY_KIND = """\
environment = "mock"
data_directory = "data"
[server]
listen = "127.0.0.1:0"
certificate_file = "mounted/pair.crt"
key_file = "mounted/pair.key"
[admin]
listen = "127.0.0.1:0"
certificate_file = "mounted/pair.crt"
key_file = "mounted/pair.key"
[upstreams.bank]
url = "https://api-mock.payments.jpmorgan.com"
client_certificate_file = "mounted/pair.crt"
client_key_file = "mounted/pair.key"
[credentials.jwt]
flavor = "jwt"
client_id = "one"
token_url = "https://id.payments.jpmorgan.com/token"
private_key_file = "mounted/pair.key"
certificate_file = "mounted/pair.crt"
[credentials.locked]
flavor = "jwt"
client_id = "two"
token_url = "https://id.payments.jpmorgan.com/token"
private_key_file = "mounted/locked.key"
private_key_passphrase_file = "mounted/secret"
certificate_file = "mounted/pair.crt"
[credentials.basic]
flavor = "basic"
client_id = "three"
client_secret_file = "mounted/secret"
[credentials.listed]
flavor = "basic"
client_id = "four"
[facade]
paths = ["/oauth2/token"]
signing_key_files = ["mounted/secret"]
[callers.erp]
networks = ["127.0.0.0/8"]
facade_client_id = "erp"
assertion_certificate_files = ["mounted/pair.crt"]
[request_log]
body_hmac_key_file = "mounted/secret"
database_file = "mounted/database.url"
[state]
url_file = "mounted/redis.url"
encryption_key_files = ["mounted/secret"]
"""
_LISTED = "credentials__listed__client_secret"
# The keys above that name a private file; the passphrase hides its key, which can't be read without it.
_PRIVATE = {
    *("server.key_file", "admin.key_file", "upstreams.bank.client_key_file", "credentials.jwt.private_key_file"),
    *("credentials.locked.private_key_passphrase_file", "credentials.basic.client_secret_file"),
    *("credentials.listed.client_secret", "facade.signing_key_files", "request_log.body_hmac_key_file"),
    *("request_log.database_file", "state.url_file", "state.encryption_key_files"),
}


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that other users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="payproxy-mounted-") as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@pytest.fixture
def mounted(place: Path) -> Path:
    """Return a directory with a file of every kind that may be secret, for a configuration beside it."""
    (place / "payproxy.toml").write_text(_EVERY_KIND)
    (place / "data").mkdir()
    owned(place / "data", 0o700, user=USER)
    mounted = place / "mounted"
    mounted.mkdir()
    make_pair(mounted, name="pair")
    (mounted / "secret").write_text("s3cret-" * 8)
    (mounted / _LISTED).write_text("s3cret-" * 8)
    (mounted / "database.url").write_text("sqlite:requests.db")
    (mounted / "redis.url").write_text("redis://127.0.0.1:1/0")
    key, passphrase = mounted / "pair.key", mounted / "secret"
    openssl("pkcs8", "-topk8", "-in", key, "-out", mounted / "locked.key", "-passout", f"file:{passphrase}")
    return mounted


@pytest.mark.parametrize(
    ("mode", "owner", "group", "acl", "user", "refused"),
    [
        pytest.param(0o400, 0, 0, "", 0, "", id="root's, for root"),
        pytest.param(0o600, USER, GROUP, "", USER, "", id="ours"),
        pytest.param(0o440, 0, 54399, "", USER, "", id="Kubernetes, fsGroup"),
        pytest.param(0o400, 0, 0, f"u:{USER}:r", USER, "", id="systemd, LoadCredential"),
        pytest.param(0o444, 0, 0, "", USER, "in Docker: uid 54321 and mode 0400 of the secret", id="Docker"),
        pytest.param(0o444, 0, 0, "", 0, "in Docker: mode 0400 of the secret", id="Docker, for root"),
        pytest.param(0o400, 0, 0, "", USER, "fsGroup", id="Kubernetes, no fsGroup"),
        pytest.param(0o440, USER, GROUP, "", USER, "run `chmod 600", id="ours, for the group too"),
        pytest.param(0o400, USER, GROUP, "u:54322:r", USER, "run `chmod 600", id="ours, for another user too"),
        pytest.param(0o440, 54322, GROUP, "", USER, "`chown 54321", id="another user's"),
        pytest.param(0o460, 0, GROUP, "", USER, "fsGroup", id="the group may write"),
    ],
)
def test_who_may_read_what_may_be_secret(  # noqa: PLR0917 - the columns above
    place: Path, mounted: Path, mode: int, owner: int, group: int, acl: str, user: int, refused: str
) -> None:
    """One rule for every kind of private file, each file named; the words mend it where it is mounted."""
    for path in mounted.iterdir():
        if path.suffix != ".crt":
            owned(path, mode, user=owner, group=group)
    if acl:  # systemd mounts the directory so, too
        subprocess.run(["/usr/bin/setfacl", "-m", acl, *mounted.iterdir()], check=True)
        owned(mounted, 0o500, user=owner, group=group)
        subprocess.run(["/usr/bin/setfacl", "-m", f"u:{USER}:rx", mounted], check=True)
    (place / "data").rmdir()
    findings = check(place, user=user, groups=[group] if group > GROUP else [])

    errors = {one["key"]: one["fix"] for one in findings if one["severity"] == "error"}
    errors.pop("credentials.listed.client_secret_file", None)  # what could not be read is missing, too
    assert set(errors) == (_PRIVATE if refused else set()), findings
    assert all(refused in fix for fix in errors.values())


@pytest.mark.parametrize(
    ("mode", "owner", "group", "words"),
    [
        (0o700, USER, GROUP, ""),
        (0o2770, 0, GROUP, ""),
        (0o755, 0, 0, "may not write in"),
        (0o755, 54322, 0, "belongs to user 54322"),
        (0o777, 54322, 0, "belongs to user 54322"),
        (0o2770, USER, GROUP, "fsGroupChangePolicy"),
        (None, 0, 0, "may not make"),
    ],
)
def test_whose_volume_may_be_the_data_directory(  # noqa: PLR0917 - the columns above
    place: Path, mounted: Path, mode: int | None, owner: int, group: int, words: str
) -> None:
    """A volume of another owner, or that can't be written, is a finding beforehand; `serve` says the same."""
    for path in mounted.iterdir():
        owned(path, 0o440, group=GROUP)
    if mode is None:
        (place / "data").rmdir()
    else:
        owned(place / "data", mode, user=owner, group=group)
    found = [f"{one['what']}; {one['fix']}" for one in check(place) if one["key"] == "data_directory"]

    assert len(found) == bool(words)
    assert words in "".join(found)
    if words:
        ended = run(place, "serve", "--config", "payproxy.toml")
        assert (ended.returncode, words in ended.stderr) == (1 if mode is None else 78, True)


def test_a_volume_that_is_mounted_read_only(place: Path, mounted: Path) -> None:
    """Ours by its modes, and still nothing can be written."""
    for path in mounted.iterdir():
        owned(path, 0o440, group=GROUP)
    subprocess.run(
        ["/usr/bin/mount", "-t", "tmpfs", "-o", f"mode=700,uid={USER},size=3m", "none", place / "data"], check=True
    )
    try:
        done = subprocess.run(
            as_user(sys.executable, "-m", "proxy", "check", "--json", read_only=[place / "data"]),
            cwd=place, env=environment(CREDENTIALS_DIRECTORY=str(mounted)), capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        subprocess.run(["/usr/bin/umount", place / "data"], check=True)

    (found,) = (one for one in json.loads(done.stdout) if one["key"] == "data_directory")
    assert "mount it for reading and writing" in found["fix"]


def test_a_directory_of_secrets_that_may_not_be_listed(place: Path, mounted: Path) -> None:
    """Nothing in it is read, and that is said."""
    owned(mounted, 0o700)

    assert "this user may not list the directory" in [one["what"] for one in check(place)]


@pytest.fixture
def kubelet(place: Path) -> Iterator["Volume"]:
    """Return a volume of secrets, which is only read by the pod."""
    path = place / "volume"
    path.mkdir()
    subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "-o", "mode=755,size=1m", "none", path], check=True)
    yield Volume(path)
    subprocess.run(["/usr/bin/umount", path], check=True)


class Volume:
    """A volume as the kubelet writes it: links to files in a directory that one link, `..data`, names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0

    def write(self, files: dict[str, bytes], *, mode: int = 0o440) -> None:
        """Put *files* in the place of those before, all at once."""
        self._number += 1
        new = self.path / f"..{self._number}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
            owned(new / name, mode, group=GROUP)
            if self._number == 1:
                (self.path / name).symlink_to(f"..data/{name}")
        (self.path / "..new").symlink_to(new.name)
        (self.path / "..new").rename(self.path / "..data")


async def test_a_pod_with_a_secret_volume(place: Path, bank: Bank, kubelet: Volume) -> None:
    """Root's files for the fsGroup, mounted read-only: it starts, takes new ones, and refuses those that all may read.

    It starts again when the kubelet has opened its data to the fsGroup, as at each start of a pod.
    """
    pairs = [await asyncio.to_thread(make_pair, place, name=name) for name in ("first", "second")]
    bank.world.register_jwt_client("pod", pairs[0][1].read_bytes())
    bank.world.clients.add_certificate(Flavor.MODERN, "pod", pairs[1][1].read_bytes(), kid_forms=["sha1-hex"])
    files = [{"tls.key": key.read_bytes(), "tls.crt": crt.read_bytes()} for key, crt in pairs]
    kubelet.write(files[0])
    owned(place, 0o755)
    data = place / "data"
    data.mkdir()
    owned(data, 0o2770, group=GROUP)
    (place / "payproxy.toml").write_text(_POD.format(bank=bank.url, audience=AUDIENCES["payments"]))
    serve = as_user(
        sys.executable,
        "-m",
        "proxy",
        "serve",
        "--config",
        place / "payproxy.toml",
        groups=[GROUP],
        read_only=[kubelet.path],
    )
    start = ("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *serve)
    pod = await Instance.run(place, *start)
    try:
        await pod.started(ready=True)
        assert (await get(pod.address, "/payment/v2/x")).status == 404
        kubelet.write(files[1], mode=0o444)
        await until(lambda: "new files of credential pod refused" in pod.output, otherwise="open files were taken")
        assert "fsGroup" in pod.output
        kubelet.write(files[1])
        await until(lambda: "credential pod replaced" in pod.output, otherwise="the new pair was not taken")
    finally:
        await pod.end()
    for path in data.rglob("*"):
        owned(path, path.stat().st_mode & 0o777 | (0o2770 if path.is_dir() else 0o660), user=USER, group=GROUP)
    pod = await Instance.run(place, *start)
    try:
        await pod.started(ready=True)
        assert "masking.key: group could read it" in pod.output
        assert (data / "masking.key").stat().st_mode & 0o777 == 0o600
    finally:
        await pod.end()


_POD = """\
environment = "client-testing"
data_directory = "data"
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[upstreams.bank]
url = "{bank}"
[credentials.pod]
flavor = "jwt"
client_id = "pod"
token_url = "{bank}/oauth2/token"
private_key_file = "volume/tls.key"
certificate_file = "volume/tls.crt"
[[routes]]
name = "payments"
path = "/payment/v2"
upstream = "bank"
credential = "pod"
audience = "{audience}"
"""


def check(place: Path, *, user: int = USER, groups: list[int] | None = None) -> list[dict[str, Any]]:
    """Return the findings of `payproxy check`, run in *place* by *user*."""
    done = run(place, "check", "--json", user=user, groups=groups)
    assert done.returncode in {0, 1}, done.stderr
    return [dict(one) for one in json.loads(done.stdout)]


def run(
    place: Path, *arguments: str, user: int = USER, groups: list[int] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `payproxy` in *place* as *user*, for whom `mounted` has the credentials."""
    return subprocess.run(
        as_user(sys.executable, "-m", "proxy", *arguments, user=user, group=user, groups=groups or ()),
        cwd=place,
        env=environment(CREDENTIALS_DIRECTORY=str(place / "mounted")),
        capture_output=True,
        text=True,
        check=False,
    )
