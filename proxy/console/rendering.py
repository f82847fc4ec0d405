"""HTML of pages by jinja2, with autoescape. Imported when the first page is asked for: most never need its memory."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from proxy.text import printable

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Return *template* filled with *values*; markup in them stays text, and control characters are replaced."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = _coded
    return environment


def _coded(text: str) -> Markup:
    """Return *text*, with what is between backticks as code; markup in it stays text."""
    text = str(_finalize(text))
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup().join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _finalize(value: Any) -> Any:
    # Markup, a subclass of str, is what the templates themselves have made.
    return printable(value, other="\N{REPLACEMENT CHARACTER}", keep="\n") if type(value) is str else value
