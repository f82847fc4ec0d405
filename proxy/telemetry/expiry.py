"""When and how the end of a certificate is said: 30, 14, 7 and 1 days before it, and at the end; pure."""

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
    return f"expires in {time_left(left)}" if left > 0 else "has expired"


def time_left(seconds: float) -> str:
    """Return *seconds* in the largest unit, rounded down: "13 days", "1 hour", "less than a minute"."""
    for size, unit in ((_DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return "less than a minute"


def renewal(use: str, name: str) -> str:
    """Return what to do about a certificate that expires, by its *use* and the *name* of its table or rule."""
    if use == "credential":
        return f"`payproxy keys renew {name}`"
    if use == "signature":
        return f"`payproxy keys renew {name}` says how"
    return "make a new one and give it to those who check it"
