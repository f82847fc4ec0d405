import re
from pathlib import Path

import pytest

from proxy.telemetry.error_meanings import MEANINGS, meaning_of, next_step_of

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()


def part(code: str, title: str) -> str:
    """Return what the section of *code* has under *title*, as plain text."""
    section = re.search(rf"^### {code}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, code
    found = re.search(rf"^- \*\*{title}\.\*\* (.*?)(?=^- \*\*|\Z)", section[1], re.MULTILINE | re.DOTALL)
    assert found, (code, title)
    text = re.sub(r"\[(`?)([^\]]*?)`?\]\([^)]*\)", r"\2", found[1])
    return " ".join(text.replace("`", "").split())


def test_every_code_of_the_page_has_a_meaning() -> None:
    """And no other code has one."""
    assert sorted(MEANINGS) == sorted(re.findall(r"^### ([a-z_]+)$", PAGE, re.MULTILINE))


@pytest.mark.parametrize("code", MEANINGS)
def test_the_words_are_those_of_the_page(code: str) -> None:
    """Commands and console say how a section of docs/errors.md begins."""
    assert part(code, "Meaning").startswith(MEANINGS[code].meaning.replace("`", ""))
    assert part(code, "Next step").startswith(MEANINGS[code].next_step.replace("`", ""))


def test_an_answer_of_the_bank_has_no_code() -> None:
    """Then its status is the meaning; what may be there and may not is to be asked for."""
    assert meaning_of("", 503) == "The bank answered 503."
    assert next_step_of("", "unknown").startswith("Ask the bank")
    assert "logs show" in next_step_of("", "yes")


def test_a_code_of_the_facade_is_no_defect() -> None:
    """Its token endpoint has OAuth's codes."""
    assert "facade" in meaning_of("invalid_client")
