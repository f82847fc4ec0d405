"""The README's walk from an empty folder to a first call, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_walk_ends_in_a_call_by_a_signed_jwt(tmp_path: Path) -> None:
    """At most seven commands lead from an empty folder to the bank's answer."""
    found = re.search(r"<!-- walk -->\n```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    commands = found[1].strip().splitlines()
    assert len(commands) <= 7
    script = "\n".join(["set -e", "trap 'kill $(jobs -p); wait' EXIT", *commands])

    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607  whichever bash is there
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert '"' in done.stdout.splitlines()[-1], done.stdout
    assert "BEGIN" not in done.stdout
