"""When the end of a certificate is said: 30, 14, 7 and 1 days before it, and at the end; pure."""

_DAY = 86400

# The bank needs the next certificate before this one expires, and its approval takes days.
STEPS_IN_DAYS = (30, 14, 7, 1, 0)

WARNING_SECONDS = STEPS_IN_DAYS[0] * _DAY


def expiry_step(expires: float, *, now: float) -> int | None:
    """Return the last of the steps that has been reached, in days before *expires*; None if none has.

    Both times are epoch seconds.
    """
    return min((step for step in STEPS_IN_DAYS if expires - now <= step * _DAY), default=None)


def expiry_words(expires: float, *, now: float) -> str:
    """Return how long a certificate is valid: "expires in 13 days", "expires in 5 hours" or "has expired"."""
    left = expires - now
    if left <= 0:
        return "has expired"
    number, unit = (int(left // _DAY), "day") if left >= _DAY else (int(left // 3600), "hour")
    return f"expires in {number} {unit}{'' if number == 1 else 's'}"
