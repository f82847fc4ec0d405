from pathlib import Path

import pytest

from proxy.checks.container import in_container
from proxy.checks.offline import check_files
from proxy.settings.findings import Severity
from tests.checks.support import NOW
from tests.settings.support import CALLER, plain


@pytest.mark.parametrize(
    ("mark", "environ", "pid", "expected"),
    [
        ("", {}, 1, False),
        (".dockerenv", {}, 1, True),
        (".dockerenv", {}, 42, False),
        ("run/.containerenv", {}, 1, True),
        ("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, 42, True),
    ],
)
def test_what_is_a_container(tmp_path: Path, mark: str, environ: dict[str, str], *, pid: int, expected: bool) -> None:
    """Docker and Podman leave a file, Kubernetes a variable; a developer's process in a container is none."""
    (tmp_path / "run").mkdir()
    if mark:
        (tmp_path / mark).touch()

    assert in_container(environ, pid=pid, root=tmp_path) is expected


@pytest.mark.parametrize(
    ("listen", "more", "words"),
    [
        ("127.0.0.1:8080", "", "[callers.NAME] or server.allow_anonymous = true"),
        ("localhost:8443", CALLER, 'server.listen = "0.0.0.0:8443" (server.hosts'),
        ("[::1]:8080", CALLER, "admin.console = false"),
        ("0.0.0.0:8080", CALLER, ""),
        ("unix:/run/payproxy.sock", CALLER, ""),
    ],
)
def test_a_listener_that_nobody_outside_reaches(tmp_path: Path, listen: str, more: str, words: str) -> None:
    """In a container a warning names every key that has to change; elsewhere nothing is said."""
    text = plain(('listen = "127.0.0.1:8080"', f'listen = "{listen}"'), more=more)
    (tmp_path / "payproxy.toml").write_text(text)
    inside, outside = (
        check_files(None, environ={}, cwd=tmp_path, now=NOW, container=container) for container in (True, False)
    )

    new = [one for one in inside if one not in outside]
    assert [(one.key, one.severity) for one in new] == [("server.listen", Severity.WARNING)] * bool(words)
    assert words in "".join(one.fix for one in new)
