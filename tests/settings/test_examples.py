from pathlib import Path

import pytest

from proxy.settings.load import load

CONFIG = Path(__file__).parents[2] / "config"


@pytest.mark.parametrize("name", ["mock", "client-testing", "production", "adfs-migration"])
def test_an_example_has_placeholders_only(name: str, tmp_path: Path) -> None:
    """What the reader has to fill in is all that keeps an example from running; its head says so."""
    path = CONFIG / f"{name}.toml"
    loaded = load(path, environ={}, cwd=tmp_path, secrets_directory=tmp_path)

    assert loaded.findings
    assert {finding.what for finding in loaded.findings} == {"a placeholder was left in"}
    assert "placeholder" in path.read_text().partition("environment =")[0]


def test_the_demo_needs_its_secret_only(tmp_path: Path) -> None:
    """The example for the simulator runs as soon as the variable that its head names is set."""
    path = CONFIG / "demo.toml"
    variable, _, value = path.read_text().partition("export ")[2].splitlines()[0].partition("=")
    loaded = load(path, environ={variable: value}, cwd=tmp_path, secrets_directory=tmp_path)

    assert loaded.findings == ()


@pytest.mark.parametrize("name", ["production", "adfs-migration"])
def test_filled_in_examples_run(name: str, tmp_path: Path) -> None:
    """With values in place of the placeholders nothing is left to complain about."""
    text = (CONFIG / f"{name}.toml").read_text()
    for number in range(text.count('["..."]')):
        text = text.replace('["..."]', f'["{number:064}"]', 1)
    (tmp_path / "payproxy.toml").write_text(text.replace('"..."', '"value"'))
    loaded = load(None, environ={}, cwd=tmp_path, secrets_directory=tmp_path)

    assert loaded.findings == ()
