import json
from pathlib import Path

import pytest

from proxy.cli.token import jwt_header
from proxy.simulator.clients import AUDIENCES, JWT_CLIENT_ID
from proxy.tokens.token import fingerprint
from tests.cli.serving import Site, command, serving, site


@pytest.mark.parametrize("flavor", ["jwt", "adfs"])
async def test_the_token_stands_alone_on_stdout(tmp_path: Path, flavor: str) -> None:
    """Stdout is a token that opens the API, one line; stderr says what it is and holds no token."""
    async with site(tmp_path, flavor=flavor) as place:
        done = await command("token", "payments", "--config", place.config)

        assert done.exit_code == 0, done.stderr
        value = done.stdout.removesuffix("\n")
        issued = place.bank.world.tokens.find(value)
    assert issued is not None
    assert value not in done.stderr
    for fact in ["login", issued.audience, "28800 s", fingerprint(value), "returned aud", "returned kid"]:
        assert fact in done.stderr


async def test_json(tmp_path: Path) -> None:
    """--json has the token and the facts by name."""
    async with site(tmp_path) as place:
        done = await command("token", "payments", "--config", place.config, "--json")

    value = json.loads(done.stdout)
    assert value["fingerprint"] == fingerprint(value["access_token"])
    assert (value["credential"], value["lifetime"], value["form"]) == ("login", 28800, "JWT, ES512")
    assert value["returned_aud"] != value["audience"]
    assert value["returned_kid"] == jwt_header(value["access_token"])["kid"]


async def test_a_refusal_ends_with_1_and_what_it_means(tmp_path: Path) -> None:
    """The endpoint's words and their meaning stand on stderr, nothing on stdout."""
    async with site(tmp_path) as place:
        place.write(audience="jpm:uri:prod:nothing")
        done = await command("token", "payments", "--config", place.config)

    assert (done.exit_code, done.stdout) == (1, "")
    assert "400 invalid_target" in done.stderr
    assert "look at the route's audience" in done.stderr


async def test_an_outage_ends_with_69(tmp_path: Path) -> None:
    """An endpoint that fails or can't be reached is no refusal."""
    async with site(tmp_path) as place:
        place.bank.world.faults.set("status", "/oauth2/token", status=500)
        broken = await command("token", "payments", "--config", place.config)
        place.bank.stop_listening()
        away = await command("token", "payments", "--config", place.config)

    assert (broken.exit_code, broken.stdout) == (69, "")
    assert (away.exit_code, away.stdout) == (69, "")
    assert "can't be reached" in away.stderr


async def test_a_clock_that_is_off_is_said(tmp_path: Path) -> None:
    """The token is had all the same, and the clock is mentioned."""
    async with site(tmp_path) as place:
        place.bank.world.clock_offset = 120.0
        done = await command("token", "payments", "--config", place.config)

    assert done.exit_code == 0
    assert "s behind the token endpoint's" in done.stderr


async def test_an_unknown_route_is_a_usage_error(tmp_path: Path) -> None:
    """The nearest name is offered; a broken configuration ends with 78."""
    async with site(tmp_path) as place:
        unknown = await command("token", "paiments", "--config", place.config)
        (tmp_path / "oauth.key").unlink()
        keyless = await command("token", "payments", "--config", place.config)

    assert unknown.exit_code == 2
    assert 'did you mean "payments"?' in unknown.stderr
    assert keyless.exit_code == 78


async def test_the_running_instance_tries_again_at_once(tmp_path: Path) -> None:
    """An instance that holds back for 30 s after a refusal has a token soon after `payproxy token` got one."""
    async with site(tmp_path) as place:
        place.bank.world.faults.set("refuse", "/oauth2/token", times=1)
        async with serving(place):
            status = await place.until(lambda now: now["tokens"][0]["error_code"] == "token_refused")
            assert status["tokens"][0]["retry_in"] > 20

            done = await command("token", "payments", "--config", place.config)

            assert "the running instance tries again at once" in done.stderr
            await place.until(lambda now: now["tokens"][0]["state"] == "fresh")
        await no_instance(place)


async def no_instance(place: Site) -> None:
    """Check that without an instance nothing is said of one."""
    done = await command("token", "payments", "--config", place.config)
    assert done.exit_code == 0
    assert "instance" not in done.stderr


MIGRATION = """
[credentials.old]
flavor = "jwt"
client_id = "{client}"
private_key_file = "oauth.key"
certificate_file = "oauth.crt"
token_url = "{url}"
[migrations.move]
routes = ["payments"]
legacy = {{ credential = "old", audience = "{legacy}" }}
modern = {{ credential = "login", audience = "{modern}" }}
"""


def migrate(place: Site) -> None:
    """Let the rule be migrated from one audience to another."""
    values = {"client": JWT_CLIENT_ID, "url": f"{place.bank.url}/oauth2/token"}
    more = MIGRATION.format(legacy=AUDIENCES["commerce"], modern=AUDIENCES["payments"], **values)
    place.config.write_text(place.config.read_text() + more)


async def test_a_migrated_rule_has_the_token_of_its_weight(tmp_path: Path) -> None:
    """It says which side and why; --side asks for the other one."""
    async with site(tmp_path) as place:
        migrate(place)

        async def asked(*arguments: str) -> tuple[str, str, str]:
            done = await command("token", "payments", "--config", place.config, "--json", *arguments)
            assert done.exit_code == 0, done.stderr
            value = json.loads(done.stdout)
            return value["side"], value["credential"], value["why"]

        assert await asked() == ("legacy", "old", "weight 0, it was never changed")
        assert (await asked("--side", "modern"))[:2] == ("modern", "login")
        async with serving(place):
            await place.ready()
            for weight, side in (("100", "modern"), ("49", "legacy")):
                put = ("migration", "set", "move", weight, "--reason", "r", "--force", "--config", str(place.config))
                assert (await command(*put)).exit_code == 0
                found = await asked()
                assert (found[0], f"weight {weight}, in the running instance" in found[2]) == (side, True)
            assert "other callers are on modern" in found[2]
        assert (await asked())[2].startswith("weight 49, as the last instance left it")


async def test_a_rule_without_migration_has_no_sides(tmp_path: Path) -> None:
    """So none can be asked for."""
    async with site(tmp_path) as place:
        done = await command("token", "payments", "--side", "legacy", "--config", place.config)
    assert (done.exit_code, "no migration moves payments" in done.stderr) == (2, True)


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "W10.e30.x", "e30.e30.x", "/.b.c"])
def test_what_is_no_jwt_has_no_header(text: str) -> None:
    """Opaque tokens and near misses have no facts to show."""
    assert jwt_header(text) == {}


async def test_a_printed_token_is_on_record(tmp_path: Path) -> None:
    """Who got it, for what, and its fingerprint; the next instance takes it into the log."""
    async with site(tmp_path) as place:
        unrecorded = await command("token", "payments", "--config", place.config)
        (tmp_path / "payproxy-data").mkdir()
        done = await command("token", "payments", "--config", place.config)

    assert "it is not recorded" in unrecorded.stderr
    assert done.exit_code == 0
    assert "not recorded" not in done.stderr
    [path] = (tmp_path / "payproxy-data" / "journal").glob("*.jsonl")
    record = json.loads(path.read_text())
    value = done.stdout.strip()
    assert (record["kind"], record["event"], record["credential"]) == ("token", "printed", "login")
    assert record["token_fingerprint"] == fingerprint(value)
    assert record["who"]
    assert value not in path.read_text()
