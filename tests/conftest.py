"""What all tests share: on CI a skipped test is a failed one, since CI installs every peer that a test may want."""

import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]  # noqa: ANN201, ARG001
    """Turn a skip into a failure where PAYPROXY_TESTS_MAY_NOT_SKIP is set."""
    report = yield
    if report.skipped and os.environ.get("PAYPROXY_TESTS_MAY_NOT_SKIP") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
