"""payproxy: an authenticating reverse proxy for the J.P. Morgan Payments APIs."""

__version__ = "0.1.0"
