import json
import tomllib
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from proxy.cli.main import payproxy
from proxy.settings.scrypt import make, verify
from tests.cli.serving import serving, site
from tests.cli.support import run_process
from tests.support.ports import lasting_port


def test_a_password_becomes_a_line_of_the_configuration(tmp_path: Path) -> None:
    """From standard input; the password itself is printed nowhere."""
    password = "correct horse battery"
    done = CliRunner().invoke(payproxy, ["admin", "hash-password", "al ice"], input=f"{password}\n")

    assert done.exit_code == 0
    assert verify(password, tomllib.loads(done.stdout)["admin"]["operators"]["al ice"])
    assert password not in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", "short"), ("alice", ""), ("", "long enough for it"), ("a\nb", "long enough for it")],
)
def test_a_short_password_or_a_strange_name_is_refused(name: str, password: str) -> None:
    """As a usage error, without repeating the password."""
    done = CliRunner().invoke(payproxy, ["admin", "hash-password", "--", name], input=f"{password}\n")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert not password or password not in done.stderr


async def test_a_login_link_of_a_running_instance(tmp_path: Path) -> None:
    """Its browser may then look and act as the user who made it; it is recorded with the role."""
    async with site(tmp_path) as place:
        port = lasting_port()
        hashed = make("correct horse battery", b"0123456789abcdef")
        text = place.config.read_text().replace(
            'listen = ""', f'listen = "127.0.0.1:{port}"\noperators = {{ alice = "{hashed}" }}'
        )
        place.config.write_text(text)
        async with serving(place):
            await place.ready()
            made = json.loads(run_process("admin", "login-link", "--json", "--role", "viewer", cwd=tmp_path).stdout)
            url, _, link = made["url"].partition("?link=")
            async with httpx.AsyncClient(trust_env=False, follow_redirects=True, timeout=60) as client:
                closed = await client.get(f"http://127.0.0.1:{port}/api/status")
                page = await client.post(url, data={"link": link})

    assert url == f"http://127.0.0.1:{port}/console/sign-in"
    assert made["role"] == "viewer"
    assert closed.status_code == 404
    assert "(viewer)" in page.text
    assert ">Overview</h1>" in page.text


async def test_without_operators_there_is_no_login_link(tmp_path: Path) -> None:
    """The message says where the console is, which needs none then."""
    async with site(tmp_path) as place:
        port = lasting_port()
        place.config.write_text(place.config.read_text().replace('listen = ""', f'listen = "127.0.0.1:{port}"'))
        async with serving(place):
            await place.ready()
            done = run_process("admin", "login-link", cwd=tmp_path)
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                page = await client.get(f"http://127.0.0.1:{port}/console/")

    assert done.returncode == 1
    assert f"http://127.0.0.1:{port}/console/ is read-only" in done.stderr
    assert page.status_code == 200


async def test_an_instance_without_console_makes_no_login_link(tmp_path: Path) -> None:
    """The message says which settings bring one: the instance itself has not even imported it."""
    async with site(tmp_path) as place, serving(place):
        await place.ready()
        done = run_process("admin", "login-link", cwd=tmp_path)

    assert 'listen = ""' in place.config.read_text()
    assert done.returncode == 1
    assert "the running instance has no console: [admin] listen" in done.stderr
