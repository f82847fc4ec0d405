from pathlib import Path

import pytest

from proxy.settings.values import snapshot_of
from tests.settings.support import CALLER, load_text, one_finding, plain

MIGRATION = """
[upstreams.modern]
url = "https://api-ms.payments.jpmorgan.com"

[credentials.new]
flavor = "basic"
client_id = "new-client"
client_secret_file = "secret"

[migrations.move]
routes = ["payments"]
legacy = { credential = "login" }
modern = { credential = "new", audience = "a", upstream = "modern" }
"""
RULE = '\n[[routes]]\nname = "more"\npath = "/more"\nupstream = "payments"\ncredential = "login"\n'


def moving(*changes: tuple[str, str], more: str = "") -> str:
    """Return a configuration in which rule "payments" moves, with *changes* made in it and *more* at its end."""
    text = plain(more=MIGRATION + CALLER + more)
    for old, new in changes:
        assert old in text, f"{old!r} is not in the configuration"
        text = text.replace(old, new, 1)
    return text


def test_a_migration_without_faults(tmp_path: Path) -> None:
    """Workers get both sides with their effective scopes; what is not said is the default."""
    loaded = load_text(tmp_path, moving())
    assert loaded.findings == ()
    assert loaded.settings is not None
    [values] = snapshot_of(loaded.settings, instance="x").migrations

    assert (values.name, values.routes, values.sticky, values.methods) == ("move", ("payments",), "caller", ("GET",))
    assert (values.legacy.credential, values.legacy.audience, values.legacy.upstream) == ("login", "", "")
    assert (values.modern.credential, values.modern.audience, values.modern.upstream) == ("new", "a", "modern")
    assert values.legacy.scope == values.modern.scope == "jpm:payments:sandbox"
    assert (values.pinned_legacy, values.pinned_modern, values.fallback) == ((), (), True)
    section = loaded.settings.migrations["move"]
    assert (section.max_failure_ratio, section.max_client_error_ratio) == (0.05, 0.05)


def test_all_of_a_migration_can_be_said(tmp_path: Path) -> None:
    """Pins, key, methods and fallback arrive where they decide."""
    text = moving(
        more='[callers.crm]\nnetworks = ["10.30.0.0/16"]\n[migrations.move.pin]\nlegacy = ["erp"]\nmodern = ["crm"]\n'
    ).replace("routes = [", 'sticky = "header:X-Batch"\nmethods = ["GET", "HEAD"]\nfallback = false\nroutes = [')
    loaded = load_text(tmp_path, text)
    assert loaded.settings is not None, loaded.findings
    [values] = snapshot_of(loaded.settings, instance="x").migrations

    assert (values.sticky, values.methods, values.fallback) == ("header:X-Batch", ("GET", "HEAD"), False)
    assert (values.pinned_legacy, values.pinned_modern) == (("erp",), ("crm",))


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ('["payments"]', '["paymnts"]', "migrations.move.routes", 'no rule is called "paymnts"'),
        ('["payments"]', "[]", "migrations.move.routes", "names no rule"),
        ('["payments"]', '["payments", "payments"]', "migrations.move.routes", "is in it twice"),
        ('{ credential = "login" }', '{ credential = "lgin" }', "migrations.move.legacy.credential", "no credential"),
        ('credential = "new", ', 'credential = "nw", ', "migrations.move.modern.credential", "no credential"),
        ('upstream = "modern"', 'upstream = "modrn"', "migrations.move.modern.upstream", "no upstream"),
        (
            'modern = { credential = "new", audience = "a", upstream = "modern" }',
            'modern = { credential = "login" }',
            "migrations.move.modern",
            "the two sides are the same",
        ),
        (
            'modern = { credential = "new", audience = "a", upstream = "modern" }',
            'modern = { credential = "login", scope = "jpm:payments:sandbox" }',
            "migrations.move.modern",
            "the two sides are the same",
        ),
        (
            'legacy = { credential = "login" }',
            'legacy = { credential = "new" }',
            "migrations.move.routes",
            'the credential of rule "payments" is that of neither side',
        ),
        (
            'legacy = { credential = "login" }',
            'legacy = { credential = "login", audience = "b", scope = "c" }',
            "migrations.move.routes",
            'rule "payments" goes with the credential of legacy, but audience and scope differ',
        ),
        (
            'legacy = { credential = "login" }',
            'legacy = { credential = "login", upstream = "modern" }',
            "migrations.move.routes",
            "but upstream differ",
        ),
        ("routes = [", 'sticky = "session"\nroutes = [', "migrations.move.sticky", "not a key to spread by"),
        ("routes = [", 'sticky = "header:"\nroutes = [', "migrations.move.sticky", "not a key to spread by"),
        ("routes = [", 'sticky = "header:a b"\nroutes = [', "migrations.move.sticky", "not a key to spread by"),
        (
            "routes = [",
            'sticky = "header:Authorization"\nroutes = [',
            "migrations.move.sticky",
            "can't be spread by this header",
        ),
        (
            "routes = [",
            'sticky = "request"\nmethods = ["GET", "POST"]\nroutes = [',
            "migrations.move.methods",
            "POST can't be spread by single requests",
        ),
        ("routes = [", "max_failure_ratio = 1.1\nroutes = [", "migrations.move.max_failure_ratio", "too large"),
        ("routes = [", "max_failure_ratio = -0.1\nroutes = [", "migrations.move.max_failure_ratio", "too small"),
        ("routes = [", "max_client_error_ratio = 2\nroutes = [", "migrations.move.max_client_error_ratio", "too large"),
        ("routes = [", "weight = 10\nroutes = [", "migrations.move.weight", "unknown key"),
        ("routes = [", 'pin = { legacy = ["x"] }\nroutes = [', "migrations.move.pin.legacy", 'no caller is called "x"'),
        ("routes = [", 'pin = { modern = ["x"] }\nroutes = [', "migrations.move.pin.modern", 'no caller is called "x"'),
        ("routes = [", 'pin = { modren = ["x"] }\nroutes = [', "migrations.move.pin.modren", "unknown key"),
        (
            "routes = [",
            'pin = { legacy = ["erp"], modern = ["erp"] }\nroutes = [',
            "migrations.move.pin.modern",
            'caller "erp" is pinned to both sides',
        ),
    ],
)
def test_one_fault(tmp_path: Path, old: str, new: str, key: str, what: str) -> None:
    """Each thing that a migration must be is one finding, with its line, when it is not."""
    finding = one_finding(load_text(tmp_path, moving((old, new))))

    assert finding.key == key
    assert what in finding.what
    assert finding.line
    assert finding.fix


def test_the_nearest_name_is_said(tmp_path: Path) -> None:
    """A slip of the pen is recognised."""
    assert "payments" in one_finding(load_text(tmp_path, moving(('["payments"]', '["paymnts"]')))).fix


def test_single_requests_that_change_nothing(tmp_path: Path) -> None:
    """They may go to either side, each by itself."""
    text = moving(("routes = [", 'sticky = "request"\nmethods = ["GET", "HEAD", "OPTIONS"]\nroutes = ['))
    assert load_text(tmp_path, text).findings == ()


def test_a_rule_that_is_modern_already(tmp_path: Path) -> None:
    """The rule's own credential may be either side: it is what it falls back to when the table is taken away."""
    text = moving(
        ('credential = "login"\n', 'credential = "new"\naudience = "a"\n'),
        ('upstream = "payments"', 'upstream = "modern"'),
    )
    assert load_text(tmp_path, text).findings == ()


def test_a_rule_moves_in_one_migration(tmp_path: Path) -> None:
    """Two weights for one rule would be none."""
    again = MIGRATION.partition("[migrations.move]")[2]
    finding = one_finding(load_text(tmp_path, moving(more=f"[migrations.other]{again}")))

    assert finding.key == "migrations.other.routes"
    assert finding.what == 'rule "payments" is in migration "move" too'


def test_two_migrations(tmp_path: Path) -> None:
    """Each rule has its own."""
    again = MIGRATION.partition("[migrations.move]")[2].replace('"payments"', '"more"')
    assert load_text(tmp_path, moving(more=f"{RULE}[migrations.other]{again}")).findings == ()


def test_a_broken_rule_is_no_unknown_one(tmp_path: Path) -> None:
    """It is complained about once, not again by its migration."""
    text = moving(more=RULE.replace("/more", "more")).replace('["payments"]', '["payments", "more"]')
    assert one_finding(load_text(tmp_path, text)).key == "routes.more.path"


def test_a_side_without_credential(tmp_path: Path) -> None:
    """What is missing is said, and nothing else of that migration."""
    text = moving(('legacy = { credential = "login" }', 'legacy = { audience = "x" }'))
    finding = one_finding(load_text(tmp_path, text))

    assert (finding.key, finding.what) == ("migrations.move.legacy.credential", "is missing")


def test_variables_set_parts_of_it(tmp_path: Path) -> None:
    """Also what stands in an inline table of the file."""
    variables = {
        "PAYPROXY_MIGRATIONS__MOVE__FALLBACK": "false",
        "PAYPROXY_MIGRATIONS__MOVE__MODERN__AUDIENCE": "z",
        "PAYPROXY_MIGRATIONS__MOVE__PIN__LEGACY": "erp",
    }
    loaded = load_text(tmp_path, moving(), environ=variables)
    assert loaded.settings is not None, loaded.findings
    section = loaded.settings.migrations["move"]

    assert (section.fallback, section.modern.audience, section.pin.legacy) == (False, "z", ("erp",))
    assert "PAYPROXY_MIGRATIONS__MOVE__MODERN__AUDIENCE" in loaded.sources["migrations.move.modern.audience"]
