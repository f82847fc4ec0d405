"""deploy/compose: as far as it can be tried without Docker."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import jsonschema
import pytest
import redis.asyncio
import yaml
from cryptography import x509

from tests.cli.support import run
from tests.deploy.pod import USER, as_user
from tests.deploy.support import ROOT
from tests.records.postgres import Postgres, binaries
from tests.support.redis import RedisServer

COMPOSE = ROOT / "deploy" / "compose"
SCHEMA = Path(sys.prefix) / "share" / "compose-spec.json"
CLIENT_SECRET = "the-secret-of-the-mock-client"
REPLICAS = ("payproxy-1", "payproxy-2", "payproxy-3")


def _composed() -> dict[str, Any]:
    """Return compose.yaml, with anchors and merge keys resolved."""
    read: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return read


def _services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = _composed()["services"]
    return found


@pytest.fixture
def made() -> Iterator[Path]:
    """Run make_secrets.py, and give the folder with the three services' folders, which others may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to the services' users")
    folder = Path(tempfile.mkdtemp(prefix="payproxy-compose-"))
    folder.chmod(0o755)
    _make(folder)
    yield folder
    shutil.rmtree(folder)


def _make(folder: Path) -> str:
    # As on the host of a user who is neither root nor payproxy's.
    given = folder / "client-secret"
    given.write_text(f"{CLIENT_SECRET}\n")
    os.chown(given, 1000, 1000)
    command: list[str | Path] = [sys.executable, COMPOSE / "make_secrets.py", folder, given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert CLIENT_SECRET not in done.stdout + done.stderr
    return done.stdout


def test_it_fits_the_specifications_schema() -> None:
    """As docker compose config would check it first."""
    if not SCHEMA.exists():
        pytest.skip("the schema of compose files is not installed: .ci/run does it")
    # The schema knows no `name` at the top, which is younger; its `$schema` is another spelling of this draft.
    composed = {key: value for key, value in _composed().items() if key not in {"name", "x-payproxy"}}
    schema = jsonschema.Draft201909Validator(json.loads(SCHEMA.read_text()))

    assert not [f"{list(error.path)}: {error.message}" for error in schema.iter_errors(composed)]


def test_whatever_is_named_is_there() -> None:
    """Volumes, networks, secrets and services are declared, and files that are mounted exist."""
    composed = _composed()
    for name, service in composed["services"].items():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert (COMPOSE / source).is_file() if source.startswith("./") else source in composed["volumes"], volume
            assert target.startswith("/")
        assert set(service.get("networks", [])) <= set(composed["networks"]), name
        assert set(service.get("secrets", [])) <= set(composed["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(composed["services"]), name


def test_each_replica_has_a_data_directory_and_a_name_of_its_own() -> None:
    """Everything else is the same."""
    replicas = [_services()[name] for name in REPLICAS]

    assert [one.pop("hostname") for one in replicas] == list(REPLICAS)
    data = [one["volumes"].pop() for one in replicas]
    assert data == [f"{name}:/var/lib/payproxy" for name in REPLICAS]
    assert replicas[0] == replicas[1] == replicas[2]


def test_every_container_has_the_fewest_rights() -> None:
    """No capability but what makes the secrets, no new privileges; payproxy's file system is read-only."""
    for name, service in _services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("cap_add", []) == (["CHOWN", "DAC_OVERRIDE"] if name == "secrets" else [])
    assert all(_services()[name]["read_only"] for name in (*REPLICAS, "haproxy", "redis", "secrets"))
    assert [name for name, service in _services().items() if "ports" in service] == ["haproxy"]


def test_no_secret_is_a_variable() -> None:
    """Variables have a hash, an id and the names of files."""
    for service in _services().values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("SECRET|PASSWORD|TOKEN", name) or name.endswith("_FILE"), name
            assert "://" not in value


def test_the_hash_of_a_key_is_named_by_its_content(tmp_path: Path) -> None:
    """Whoever leaves ERP_KEY_SHA256 out is told by Compose what to copy from the command's output."""
    told = _services()["payproxy-1"]["environment"]["PAYPROXY_CALLERS__ERP__API_KEY_SHA256"]
    assert "64 digits in api_key_sha256" in told

    printed = run("callers", "new", "erp", cwd=tmp_path)

    assert re.search(r'^api_key_sha256 = \["[0-9a-f]{64}"\]$', printed.stdout, re.MULTILINE)


def _seconds(name: str) -> int:
    found = re.search(rf"^  timeout {name} ([0-9]+)s$", (COMPOSE / "haproxy.cfg").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_who_waits_waits_longer_than_whom_it_waits_for() -> None:
    """HAProxy for payproxy, and Docker for both."""
    server = tomllib.loads((COMPOSE / "payproxy.toml").read_text())["server"]
    exchange = server.get("exchange_timeout", 200)

    assert _seconds("server") > exchange
    assert _seconds("client") > exchange
    for name in (*REPLICAS, "haproxy"):
        assert _services()[name]["stop_grace_period"] == f"{exchange + 30}s"


def test_haproxy_is_told_where_the_replicas_listen() -> None:
    """By name and port, for requests and for checks; and payproxy trusts HAProxy's network alone."""
    settings = tomllib.loads((COMPOSE / "payproxy.toml").read_text())
    told = _services()["haproxy"]["environment"]
    port, admin = (settings[one]["listen"].rpartition(":")[2] for one in ("server", "admin"))

    for number, name in enumerate(REPLICAS, 1):
        assert told[f"PAYPROXY_{number}"] == f"{name}:{port}"
        assert told[f"PAYPROXY_{number}_ADMIN_PORT"] == admin
    (network,) = set(_services()["haproxy"]["networks"]) & set(_services()[REPLICAS[0]]["networks"])
    (subnet,) = _composed()["networks"][network]["ipam"]["config"]
    assert settings["server"]["trusted_proxies"] == [subnet["subnet"]]
    asked = set(re.findall(r'"\$\{(\w+)\}"', (COMPOSE / "haproxy.cfg").read_text()))
    assert asked == set(told)


def test_the_secrets_are_made_once(made: Path) -> None:
    """Each service's files are its user's alone; a second start changes nothing."""
    files = {path: path.read_bytes() for path in made.glob("*/*")}
    assert len(files) == 12
    for path in files:
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_uid == (USER if path.parent.name == "payproxy" else 999)

    assert "already" in _make(made)
    assert {path: path.read_bytes() for path in made.glob("*/*")} == files


@pytest.mark.parametrize(("service", "url"), [("redis", "redis-url"), ("postgres", "database-url")])
def test_a_certificate_names_the_host_of_the_url(made: Path, service: str, url: str) -> None:
    """Which is the service's name in Docker's DNS."""
    certificate = x509.load_pem_x509_certificate((made / service / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert service in _services()
    assert urlsplit((made / "payproxy" / url).read_text()).hostname == service
    assert service in names.get_values_for_type(x509.DNSName)


def test_the_configuration_has_no_error(made: Path) -> None:
    """`payproxy check` as the container's user, with the files, the variables and the secret of compose.yaml."""
    shutil.copy(COMPOSE / "payproxy.toml", made)
    (made / "payproxy").rename(made / "secrets")
    data = made / "data"  # as the image has it
    data.mkdir(mode=0o700)
    os.chown(data, USER, USER)
    values = {
        "CLIENT_ID": "client",
        "API_KEY_SHA256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    }
    variables = {name: values[name.rpartition("__")[2]] for name in _services()["payproxy-1"]["environment"]}
    done = subprocess.run(
        as_user(sys.executable, "-m", "proxy", "check", str(made / "payproxy.toml")),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "STATE_DIRECTORY": str(data), **variables},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"warning: (\S+):", done.stdout + done.stderr) == ["server.listen", "admin.listen"]


async def test_a_real_redis_takes_its_configuration(made: Path, tmp_path: Path) -> None:
    """TLS with a certificate that the authority signed, the password of redis-url, and no eviction."""
    text = (
        (made / "redis" / "redis.conf")
        .read_text()
        .replace("/secrets/", f"{made}/redis/")
        .replace("/data", str(tmp_path))
    )
    (made / "redis.conf").write_text(re.sub(r"^(port|tls-port) .*\n", "", text, flags=re.MULTILINE))
    server = RedisServer(tmp_path, "--include", str(made / "redis.conf"), "--appendonly", "yes", tls=True)
    try:
        await server.start()
        url = (made / "payproxy" / "redis-url").read_text().replace("@redis:6379", f"@localhost:{server.port}")
        client = redis.asyncio.from_url(url, ssl_ca_certs=str(made / "payproxy" / "ca.crt"))
        async with client:
            assert await client.ping()
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
    finally:
        await server.end()


async def test_a_real_postgresql_is_reached_with_its_url(made: Path) -> None:
    """With sslmode=verify-full, the authority's certificate, and the password of both sides."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    server = Postgres(made, programs)
    server.create()
    for name in ("tls.crt", "tls.key"):
        shutil.chown(made / "postgres" / name, "postgres", "postgres")
    options = [f"ssl_{kind}_file = '{made}/postgres/tls.{end}'\n" for kind, end in (("cert", "crt"), ("key", "key"))]
    with (made / "data" / "postgresql.conf").open("a") as configuration:
        configuration.writelines(["ssl = on\n", *options])
    server.start()
    try:
        owner = await asyncpg.connect(server.url().reveal())
        password = (made / "postgres" / "password").read_text()
        await owner.execute(f"CREATE ROLE payproxy LOGIN PASSWORD '{password}'")
        await owner.execute("CREATE DATABASE payproxy OWNER payproxy")
        await owner.close()
        url = (made / "payproxy" / "database-url").read_text()
        for inside, here in (
            ("@postgres:5432", f"@localhost:{server.port}"),
            ("/etc/payproxy/secrets", f"{made}/payproxy"),
        ):
            assert inside in url
            url = url.replace(inside, here)
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        await connection.close()
    finally:
        server.kill()
