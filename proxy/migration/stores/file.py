"""The migrations' state on this machine: one file, replaced atomically, readable by its owner only."""

from pathlib import Path

from proxy.atomic_file import replace_file
from proxy.migration.state import Document, StateUnusable, decode, encode

NAME = "migrations.json"
# Room for thousands of migrations.
_MOST_BYTES = 16 * 1024 * 1024


class FileStore:
    """The state file in *data_directory*; calls block, so call them in a thread."""

    def __init__(self, data_directory: Path) -> None:
        self.path = data_directory / NAME

    def load(self) -> Document:
        """Return the stored document, empty if there is no file; raise StateUnusable, which names the file."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return Document()
        except OSError as error:
            raise StateUnusable(f"{self.path} can't be read: {error.strerror}") from None
        try:
            return decode(data)
        except StateUnusable as error:
            raise StateUnusable(f"{self.path} can't be used: {error}") from None

    def save(self, document: Document) -> None:
        """Write *document* to disk, replacing the old one; raise OSError, which leaves the old one in place."""
        replace_file(self.path, [encode(document)])

    def __repr__(self) -> str:
        return f"<FileStore {self.path}>"
