import pytest

from proxy.console.rendering import _coded


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`payproxy status` says it", "<code>payproxy status</code> says it"),
        ("<b> `<script>` &", "&lt;b&gt; <code>&lt;script&gt;</code> &amp;"),
        ("a ` alone\x1b <b>", "a ` alone\N{REPLACEMENT CHARACTER} &lt;b&gt;"),
        ("`a` `b`", "<code>a</code> <code>b</code>"),
        ("`\x1b`", "<code>\N{REPLACEMENT CHARACTER}</code>"),
        ("", ""),
    ],
)
def test_what_is_to_be_typed_is_shown_as_code(text: str, shown: str) -> None:
    """In notes; markup in it stays text."""
    assert str(_coded(text)) == shown
