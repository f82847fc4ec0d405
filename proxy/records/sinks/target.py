"""Where a sink writes, as a text that tells whether it is the same place as before; it holds no secret."""

from pathlib import Path
from urllib.parse import urlsplit

from proxy.secret import Secret


def file_target(path: Path) -> str:
    """Return the place of a file, or of a family of files."""
    return f"file:{path.absolute()}"


def postgres_target(url: Secret) -> str:
    """Return server and database of *url*: a role may change, and its password."""
    try:
        split = urlsplit(url.reveal())
    except ValueError:
        return "postgresql:"
    return f"postgresql://{split.netloc.rpartition('@')[2]}{split.path}"
