"""Sets of HTTP methods, for configuration and data path."""

from typing import Final

# Safe methods (RFC 9110 9.2.1): such a request changes nothing at the bank and may be aborted or repeated.
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# Methods with a known meaning: any other, such as MERGE, may be a payment on some server.
KNOWN_METHODS: Final = SAFE_METHODS | {"POST", "PUT", "PATCH", "DELETE"}
# The bank wants the bodies of these signed, where it wants that.
SIGNED_METHODS: Final = frozenset({"POST", "PUT"})
