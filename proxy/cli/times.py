"""Times as people read and write them: of this machine's zone, with the offset."""

from datetime import UTC, datetime


def local(seconds: float) -> str:
    """Return epoch *seconds* like 2026-11-24 09:30:04+01:00."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")


def local_text(text: object, *, precise: bool = False) -> str:
    """Return a record's time, with milliseconds if *precise*; what is none comes back as it is."""
    try:
        at = datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError, OSError):
        return "" if text is None else str(text)
    return at.isoformat(sep=" ", timespec="milliseconds" if precise else "seconds")


def has_zone(text: str) -> bool:
    """Return whether *text* says when it is without a zone to be guessed: not an ISO time without offset."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return True  # "2h" is from now, anywhere
