import pytest

from proxy.settings.findings import Key
from proxy.settings.schema import ValueKind, homes_of, names_in, text_kind, value_of


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (("environment",), ValueKind.TEXT),
        (("data_directory",), ValueKind.PATH),
        (("server", "workers"), ValueKind.INTEGER),
        (("server", "hosts"), ValueKind.LIST),
        (("server", "exchange_timeout"), ValueKind.NUMBER),
        (("server", "allow_browsers"), ValueKind.BOOLEAN),
        (("admin", "operators"), ValueKind.TABLE),
        (("admin", "operators", "alice"), ValueKind.SECRET),
        (("credentials", "x", "client_secret"), ValueKind.SECRET),
        (("credentials", "x", "extra_parameters", "y"), ValueKind.TEXT),
        (("credentials", "x", "flavor"), ValueKind.TEXT),
        (("upstreams", "x", "url"), ValueKind.TEXT),
        *((key, None) for key in (("server",), ("upstreams",), ("upstreams", "x"), ("routes",), ("nothing",), ())),
        *((key, None) for key in (("server", "nothing"), ("server", "listen", "more"), ("routes", "x", "path"))),
    ],
)
def test_what_a_text_can_set(key: Key, kind: ValueKind | None) -> None:
    """Every key of every section has a kind; sections and unknown keys have none."""
    assert text_kind(key) is kind


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", ValueKind.BOOLEAN, True),
        ("yes", ValueKind.BOOLEAN, "yes"),
        (" 12\n", ValueKind.INTEGER, 12),
        ("1.5", ValueKind.INTEGER, "1.5"),
        ("1.5", ValueKind.NUMBER, 1.5),
        ("nan", ValueKind.NUMBER, "nan"),
        ("a, b", ValueKind.LIST, ["a", "b"]),
        ("", ValueKind.LIST, []),
        ('["a,b"]', ValueKind.LIST, ["a,b"]),
        ('{"a": "b"}', ValueKind.TABLE, {"a": "b"}),
        (" x ", ValueKind.TEXT, " x "),
    ],
)
def test_values_of_texts(text: str, kind: ValueKind, value: object) -> None:
    """A text becomes what the key takes, or stays a text for the types to refuse."""
    read = value_of(text, kind)

    assert read == value
    assert type(read) is type(value)


def test_broken_json() -> None:
    """A list that begins like JSON has to be JSON."""
    with pytest.raises(ValueError, match="delimiter"):
        value_of('["a" "b"]', ValueKind.LIST)


def test_names() -> None:
    """The keys of a section are known also for tables that have names and rules that have numbers."""
    assert "listen" in names_in(("server",))
    assert "url" in names_in(("upstreams", "any"))
    assert "path" in names_in(("routes", 3))
    assert names_in(("upstreams",)) == names_in(("routes",)) == names_in(("environment",)) == ()
    assert names_in(("routes", 0, "remint_on", 1)) == ("status", "body")
    assert homes_of("audience") == ["[[routes]]"]
    assert homes_of("timeout") == ["[credentials.*]"]
