"""What all tests share: they test what the sources say, and on CI, which installs every peer, none is skipped."""

import os

import pytest
from hypothesis import settings

from proxy.hot_path import compiled, outdated
from tests.support.extent import ALL, header, is_thorough
from tests.support.leftovers import begin_run, end_run

# No deadline: others use the processor too.
settings.register_profile("all", max_examples=200, deadline=None)
settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("all" if ALL else "quick")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test machine code that is not what the sources say."""
    if found := outdated():
        raise pytest.UsageError(
            f"not as it was compiled: {', '.join(found)}: run `pip install -e '.[speed,test,dev]'` to compile again, "
            "with PAYPROXY_COMPILE=0 before it to go without"
        )
    if compiled():  # mypyc's, wherever an exception passes an await, from Python 3.12 on
        config.addinivalue_line("filterwarnings", "ignore:the .type, exc, tb. signature of throw:DeprecationWarning")
    if not hasattr(config, "workerinput"):
        begin_run(in_child_processes=bool(config.getoption("numprocesses", None)))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind, however the run ended."""
    folders = getattr(config, "_tmp_path_factory", None)  # none where `pytest_configure` has failed
    if folders is not None and not hasattr(config, "workerinput"):
        end_run(folders.getbasetemp())


def pytest_report_header() -> str:
    """Say how long it takes and which programs are missing."""
    return header()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless everything is to run or files were named."""
    if ALL or config.args != ["tests"]:
        return
    left_out = {item for item in items if is_thorough(item.path) or item.get_closest_marker("thorough")}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # noqa: ANN201, ARG001
    """Turn a skip into a failure where PAYPROXY_TESTS_MAY_NOT_SKIP is set."""
    report = yield
    if report.skipped and os.environ.get("PAYPROXY_TESTS_MAY_NOT_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
