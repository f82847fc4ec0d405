import pytest
from click.testing import CliRunner

from bench.__main__ import main


@pytest.mark.parametrize("other", ["--quick", "--walk"])
def test_figures_that_mean_nothing_are_not_kept(other: str) -> None:
    """Nothing is measured, and the page stays as it is."""
    done = CliRunner().invoke(main, ["--write", other])

    assert done.exit_code == 2
    assert "leave out --quick and --walk" in done.output
