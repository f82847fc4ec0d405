"""What all tests share: they test what the sources say, and on CI, which installs every peer, none is skipped."""

import os

import pytest

from proxy.hot_path import outdated


def pytest_configure() -> None:
    """Refuse to test machine code that is not what the sources say."""
    if found := outdated():
        raise pytest.UsageError(
            f"not as it was compiled: {', '.join(found)}: run `pip install -e '.[speed,test,dev]'` to compile again, "
            "with PAYPROXY_COMPILE=0 before it to go without"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # noqa: ANN201, ARG001
    """Turn a skip into a failure where PAYPROXY_TESTS_MAY_NOT_SKIP is set."""
    report = yield
    if report.skipped and os.environ.get("PAYPROXY_TESTS_MAY_NOT_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
