import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.config_template import FLAVORS, filled_template, guessed_flavor, toml_string
from proxy.cli.output import Failure

FOLDER = Path("/etc/payproxy")


def written(flavor: str = "jwt", *, cwd: Path = FOLDER, **environ: str) -> str:
    """Return what `init` would write with these variables."""
    return filled_template(flavor, environ, cwd=cwd, folder=FOLDER)[0]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_flavor_is_toml_with_one_route(flavor: str) -> None:
    """Each text is TOML whose route names the tables that are there."""
    values = tomllib.loads(written(flavor))
    (route,) = values["routes"]
    assert list(values["upstreams"]) == [route["upstream"]]
    assert list(values["credentials"]) == [route["credential"]]
    assert values["credentials"]["login"]["flavor"] == flavor
    assert values["environment"] == ("mock" if flavor == "basic" else "client-testing")


def test_where_it_sends_its_reader() -> None:
    """The page that it names is there."""
    [page] = re.findall(r"default: (\S+\.md)\.", written())
    assert Path(page).exists()


@pytest.mark.parametrize(
    ("environ", "flavor"),
    [
        ({}, "jwt"),
        ({"JPM_CLIENT_SECRET": "x"}, "basic"),
        ({"JPM_CLIENT_SECRET": "x", "JPM_PRIVATE_KEY_PATH": "k"}, "jwt"),
        ({"JPM_RESOURCE_ID": "x", "JPM_PRIVATE_KEY_PATH": "k"}, "adfs"),
        ({"JPM_AUDIENCE": "x"}, "jwt"),
        ({"JPM_RESOURCE_ID": ""}, "jwt"),
    ],
)
def test_flavor_is_guessed_from_the_variables(environ: dict[str, str], flavor: str) -> None:
    """A resource means adfs, a secret without a key means basic, all else jwt."""
    assert guessed_flavor(environ) == flavor


def test_adfs_takes_the_resource_and_keeps_the_banks_own_address() -> None:
    """JPM_RESOURCE_ID is the audience, JPM_AUDIENCE stands in for it, JPM_TOKEN_URL replaces the sample's address."""
    values = tomllib.loads(written("adfs", JPM_RESOURCE_ID="JPMC:URI:RS-1", JPM_AUDIENCE="other"))
    assert values["routes"][0]["audience"] == "JPMC:URI:RS-1"
    assert values["credentials"]["login"]["token_url"] == "https://idag2.jpmorganchase.com/adfs/oauth2/token"

    values = tomllib.loads(written("adfs", JPM_AUDIENCE="other", JPM_TOKEN_URL="https://x.jpmchase.com/t"))
    assert values["routes"][0]["audience"] == "other"
    assert values["credentials"]["login"]["token_url"] == "https://x.jpmchase.com/t"


def test_paths_are_turned_to_the_configuration() -> None:
    """A path relative to where one stands is written relative to the file, or whole if it is elsewhere."""
    text = written(cwd=FOLDER / "sub", JPM_PRIVATE_KEY_PATH="keys/a.key", JPM_CERT_PATH="../../ssl/a.crt")
    login = tomllib.loads(text)["credentials"]["login"]
    assert (login["private_key_file"], login["certificate_file"]) == ("sub/keys/a.key", "/etc/ssl/a.crt")


def test_no_variable_can_break_its_line() -> None:
    """A control character in any JPM_* variable is refused by the variable's name only."""
    for value in ["a\nb", "a\x7f", "a\x1b[0m", "a\u2028"]:
        with pytest.raises(Failure, match=r"^JPM_CLIENT_ID ") as caught:
            written(JPM_CLIENT_ID=value)
        assert value not in str(caught.value)


@given(st.text().filter(str.isprintable))
def test_any_printable_text_survives_as_a_string(text: str) -> None:
    """TOML reads back what `toml_string` wrote, quotes and backslashes included."""
    assert tomllib.loads(f"value = {toml_string(text)}") == {"value": text}


def test_every_template_is_installed() -> None:
    """The package data of pyproject.toml has each file that commands read."""
    package = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["proxy.cli"]
    folder = Path("proxy/cli")
    installed = {path for pattern in package for path in folder.glob(pattern)}
    assert installed == set((folder / "templates").iterdir())
