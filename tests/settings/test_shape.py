import pytest

from proxy.settings.findings import Key
from proxy.settings.shape import Kind, homes_of, names_in, text_kind, value_of


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (("environment",), Kind.TEXT),
        (("data_directory",), Kind.PATH),
        (("server", "workers"), Kind.INTEGER),
        (("server", "hosts"), Kind.LIST),
        (("server", "exchange_timeout"), Kind.NUMBER),
        (("server", "allow_browsers"), Kind.BOOLEAN),
        (("admin", "operators"), Kind.TABLE),
        (("admin", "operators", "alice"), Kind.SECRET),
        (("credentials", "x", "client_secret"), Kind.SECRET),
        (("credentials", "x", "extra_parameters", "y"), Kind.TEXT),
        (("credentials", "x", "flavor"), Kind.TEXT),
        (("upstreams", "x", "url"), Kind.TEXT),
        *((key, None) for key in (("server",), ("upstreams",), ("upstreams", "x"), ("routes",), ("nothing",), ())),
        *((key, None) for key in (("server", "nothing"), ("server", "listen", "more"), ("routes", "x", "path"))),
    ],
)
def test_what_a_text_can_set(key: Key, kind: Kind | None) -> None:
    """Every key of every section has a kind; sections and unknown keys have none."""
    assert text_kind(key) is kind


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("true", Kind.BOOLEAN, True),
        ("yes", Kind.BOOLEAN, "yes"),
        (" 12\n", Kind.INTEGER, 12),
        ("1.5", Kind.INTEGER, "1.5"),
        ("1.5", Kind.NUMBER, 1.5),
        ("nan", Kind.NUMBER, "nan"),
        ("a, b", Kind.LIST, ["a", "b"]),
        ("", Kind.LIST, []),
        ('["a,b"]', Kind.LIST, ["a,b"]),
        ('{"a": "b"}', Kind.TABLE, {"a": "b"}),
        (" x ", Kind.TEXT, " x "),
    ],
)
def test_values_of_texts(text: str, kind: Kind, value: object) -> None:
    """A text becomes what the key takes, or stays a text for the types to refuse."""
    read = value_of(text, kind)

    assert read == value
    assert type(read) is type(value)


def test_broken_json() -> None:
    """A list that begins like JSON has to be JSON."""
    with pytest.raises(ValueError, match="delimiter"):
        value_of('["a" "b"]', Kind.LIST)


def test_names() -> None:
    """The keys of a section are known also for tables that have names and rules that have numbers."""
    assert "listen" in names_in(("server",))
    assert "url" in names_in(("upstreams", "any"))
    assert "path" in names_in(("routes", 3))
    assert names_in(("upstreams",)) == names_in(("routes",)) == names_in(("environment",)) == ()
    assert names_in(("routes", 0, "remint_on", 1)) == ("status", "body")
    assert homes_of("audience") == ["[[routes]]"]
    assert homes_of("timeout") == ["[credentials.*]"]
