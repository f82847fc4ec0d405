import pytest

from bench.other_work import Around


@pytest.mark.parametrize(("others", "busy"), [(0.02, False), (0.1, False), (0.11, True), (1.8, True)])
def test_a_table_says_whether_the_machine_was_busy(others: float, *, busy: bool) -> None:
    """Load averages stand there in any case: they count our own work too, so that they alone say little."""
    said = str(Around(0.25, 1.5, others))

    assert said.startswith("load average 0.25 at the start, 1.50 at the end; ")
    assert ("on a busy machine" in said) is busy
    assert f"{others:.2f}" in said
