"""HTML of pages by jinja2, with autoescape. Imported when the first page is asked for: most never need its memory."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from proxy.text import printable

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Return *template* filled with *values*; markup in them stays text, and control characters are replaced."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: Any) -> Any:
    # Markup, a subclass of str, is what the templates themselves have made.
    return printable(value, other="\N{REPLACEMENT CHARACTER}", keep="\n") if type(value) is str else value
