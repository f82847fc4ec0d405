import tomllib

from hypothesis import given
from hypothesis import strategies as st

from proxy.settings.findings import Key, line_of
from proxy.settings.toml_text import key_lines

DOCUMENT = '''\
# a comment = 1
environment = "mock"  # [not.a.table]

server.listen = "x"
"quoted.key" = 1

[ upstreams . "payments" ]
url = """
[upstreams.fake]
fake = 1"""
list = [
  "]", # ]
  { a = "}" },
]
after = \'\'\'
'\'\'\'\'

[[routes]]
name = "one"
[[routes]]
name = "two"
remint_on = [{status = 403}]
[routes.signature]
content_type = "x"
'''


def test_every_kind_of_statement() -> None:
    """Strings and lists of many lines, quoted and dotted keys, and arrays of tables are counted right."""
    lines = key_lines(DOCUMENT)

    assert tomllib.loads(DOCUMENT)
    assert lines == {
        ("environment",): 2,
        ("server",): 4,
        ("server", "listen"): 4,
        ("quoted.key",): 5,
        ("upstreams",): 7,
        ("upstreams", "payments"): 7,
        ("upstreams", "payments", "url"): 8,
        ("upstreams", "payments", "list"): 11,
        ("upstreams", "payments", "after"): 15,
        ("routes",): 18,
        ("routes", 0): 18,
        ("routes", 0, "name"): 19,
        ("routes", 1): 20,
        ("routes", 1, "name"): 21,
        ("routes", 1, "remint_on"): 22,
        ("routes", 1, "signature"): 23,
        ("routes", 1, "signature", "content_type"): 24,
    }


def test_a_missing_key_is_looked_for_around_its_table() -> None:
    """What has no line of its own stands where the table around it begins, or nowhere."""
    lines = key_lines(DOCUMENT)

    assert line_of(("routes", 1, "remint_on", 0, "status"), lines) == 22
    assert line_of(("upstreams", "payments", "missing"), lines) == 7
    assert line_of(("admin", "listen"), lines) == 0


def test_windows_line_ends() -> None:
    """A file that was saved on Windows has the same lines."""
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("b", "c"): 4}


VALUES = st.sampled_from(
    [
        "1",
        "true",
        '"a # b"',
        '"\\"="',
        "'['",
        '"""\n[x]\ny = 1\n"""',
        "'''\n'''",
        "[\n1, # ]\n2]",
        "{ a = 1, b = [2] }",
        "[[1], [2]]",
    ]
)


@given(st.lists(st.tuples(st.sampled_from(["table", "array", "key", "blank", "comment"]), VALUES), max_size=20))
def test_any_document(statements: list[tuple[str, str]]) -> None:
    """Whatever values stand between them, each key is found on the line that it was written on."""
    text, expected = "", dict[Key, int]()
    table: Key = ()
    rules = 0
    for number, (kind, value) in enumerate(statements):
        line = text.count("\n") + 1
        if kind == "table":
            table = (f"t{number}",)
            text += f"[t{number}]\n"
            expected[table] = line
        elif kind == "array":
            table = ("rules", rules)
            text += "[[rules]]\n"
            expected.setdefault(("rules",), line)
            expected[table] = line
            rules += 1
        elif kind == "key":
            text += f"k{number} = {value} # = [\n"
            expected[*table, f"k{number}"] = line
        else:
            text += "\n" if kind == "blank" else "# [c] = 1 '\n"

    assert tomllib.loads(text) is not None
    assert key_lines(text) == expected
