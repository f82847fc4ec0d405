import pytest

from proxy.settings.placeholder import has_placeholder, is_placeholder


@pytest.mark.parametrize(
    "text",
    [
        *("...", "JPMC:URI:RS-...", "<YOUR CLIENT ID>", "<client_id>", "https://<host>/x", "{{ id }}", "${CLIENT_ID}"),
        *("CHANGEME", "change-me", "YOUR_CLIENT_ID", "your-client-id", "xxxx", "TODO", "replace_me"),
    ],
)
def test_a_template_that_nobody_filled_in(text: str) -> None:
    """Our own dots, and what other people's samples have in their place."""
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text", ["", "my-client", "CC-1-PROD", "jpm:uri:prod:payments", "a < b > c", "xx", "todo-list"]
)
def test_a_value(text: str) -> None:
    """Nothing that a bank hands out."""
    assert not is_placeholder(text)


def test_lists_and_tables_are_looked_into() -> None:
    """But XML in the body of an answer is what is looked for there."""
    assert has_placeholder(("callers", "erp", "api_key_sha256"), ["<KEY>"])
    assert has_placeholder(("migrations", "a", "legacy"), {"audience": "<RESOURCE>"})
    assert not has_placeholder(("routes", 0, "remint_on"), [{"status": 403, "body": "<code>GCA-001</code>"}])
    assert not has_placeholder(("server", "workers"), 1)
