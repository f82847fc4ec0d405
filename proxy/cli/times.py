"""Times for people: in this machine's zone, with the offset."""

from datetime import UTC, datetime


def local(seconds: float) -> str:
    """Return epoch *seconds* in the form 2026-11-24 09:30:04+01:00."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")


def local_text(text: object, *, precise: bool = False) -> str:
    """Return a record's time as local time, with milliseconds if *precise*; anything else is returned unchanged."""
    try:
        at = datetime.fromisoformat(str(text)).astimezone()
    except (ValueError, OverflowError, OSError):
        return "" if text is None else str(text)
    return at.isoformat(sep=" ", timespec="milliseconds" if precise else "seconds")


def has_zone(text: str) -> bool:
    """Return whether *text* needs no zone to be a definite time: anything but an ISO time without offset."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return True  # "2h" counts from now, in any zone
