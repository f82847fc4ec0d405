"""Runs `payproxy keys renew login` at a site, and reads its files."""

from pathlib import Path

from tests.cli.serving import Site, command


async def renew(place: Site) -> tuple[int, str]:
    """Run the command, and return exit code and all that it printed."""
    done = await command("keys", "renew", "login", "--config", place.config)
    return done.exit_code, done.stdout + done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of the pair in use and of those beside it."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("oauth.*"))}
