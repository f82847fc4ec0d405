"""Methods as configuration and data path read them."""

from typing import Final

# They change nothing at the bank (RFC 9110 9.2.1): what is asked with them may be broken off, and asked twice.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# What everyone takes for what they are: any other, such as MERGE, may be a payment to who understands it.
KNOWN_METHODS: Final = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
