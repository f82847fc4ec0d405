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


def duration(seconds: float) -> str:
    """Return *seconds* in the largest unit and the next: 45 s, 3 min 5 s, 1 h, 8 d 4 h; a negative one is 0 s."""
    left = max(0, int(seconds))
    units = ((left // 86400, "d"), (left // 3600 % 24, "h"), (left // 60 % 60, "min"), (left % 60, "s"))
    first = next((place for place, (number, _) in enumerate(units) if number), len(units) - 1)
    return " ".join(f"{number} {unit}" for number, unit in units[first : first + 2] if number) or "0 s"


def recent(seconds: float, *, uptime: float) -> str:
    """Return what is counted in memory over the last *seconds* by an instance that is up for *uptime* seconds.

    "within the last 1 h"; "since the start, 3 min ago" if the instance has not run for so long.
    """
    if uptime < seconds:
        return f"since the start, {duration(uptime)} ago"
    return f"within the last {duration(seconds)}"


def has_zone(text: str) -> bool:
    """Return whether *text* needs no zone to be a definite time: anything but an ISO time without offset."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return True  # "2h" counts from now, in any zone
