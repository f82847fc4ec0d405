"""The page of the history: plots of a window that the address names."""

import dataclasses
from collections.abc import Callable
from typing import Any

from proxy.console.page import REFRESH_SECONDS, PageContent
from proxy.console.plots import WINDOWS, plots
from proxy.telemetry.history import History

PATH = "/console/history"
DEFAULT = "1h"


def history_page(history: History, window: str) -> Callable[[], PageContent]:
    """Return what makes the page of *window*, a name of WINDOWS; others are taken for the default."""
    name = window if window in WINDOWS else DEFAULT
    chosen = WINDOWS[name]
    samples = history.samples(chosen.ring, number=chosen.number, together=chosen.together)

    def page() -> PageContent:
        links = [(f"{PATH}?window={one}", f"Last {WINDOWS[one].name}", one == name) for one in WINDOWS]
        more: dict[str, Any] = {"plots": plots(samples, chosen), "links": links}
        return PageContent(
            path=PATH,
            title="History",
            twin=f"{PATH}.json?window={name}",
            data={"window": name, "samples": [dataclasses.asdict(one) for one in samples]},
            template="history.html",
            refresh=REFRESH_SECONDS,
            more=more,
        )

    return page
