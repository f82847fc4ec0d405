import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.load import load
from proxy.settings.salvage import data_directories, salvaged
from tests.settings.support import PLAIN


def test_whole_lines_of_broken_toml_are_read() -> None:
    """A header that was not closed still begins its table, and a broken line takes no other with it."""
    text = 'a = 1\nb = \n[server\nlisten = "x"\n[[routes]] # c\nname = "one"\n[[routes]]\nname = "two"\n[a]\nx = 1\n'

    assert salvaged(text) == {"a": 1, "server": {"listen": "x"}, "routes": [{"name": "one"}, {"name": "two"}]}


def test_of_a_whole_file_all_is_read(tmp_path: Path) -> None:
    """What has a value on each line comes out as the parser reads it."""
    assert salvaged(PLAIN) == tomllib.loads(PLAIN)

    (tmp_path / "payproxy.toml").write_text(PLAIN + "[callers.erp\n")
    plain = load(None, environ={}, cwd=tmp_path)
    found = load(None, environ={}, cwd=tmp_path, salvage=True)

    assert (plain.readable, found.settings) == (None, None)
    assert found.readable is not None
    assert found.readable.routes[0].name == "payments"


@pytest.mark.parametrize(
    "line",
    [
        'data_directory = "/var/lib/pay"',
        '  data_directory="/var/lib/pay" # here',
        'data_directory = "/var/lib/pay',
        "data_directory = /var/lib/pay  # here",
        "data_directory: '/var/lib/pay'",
        'data_dirctory = "/var/lib/pay"',
        '[server]\nDataDirectory = "/var/lib/pay"',
    ],
)
def test_a_data_directory_is_known_in_spite_of_typos(line: str) -> None:
    """Without quotes, misspelt or in a wrong table it is still where the instance may be."""
    assert data_directories(f"x = [\n{line}\n]]") == ["/var/lib/pay"]


@given(st.text())
def test_nothing_is_raised(text: str) -> None:
    """Whatever the file holds."""
    salvaged(text)
    data_directories(text)
