"""Test whether a stored line is a record that matches a query; a line that can't be parsed never matches."""

from collections.abc import Mapping
from typing import Any

from proxy.records.query import Query
from proxy.records.sinks.row import decode


def fitting(query: Query, line: bytes) -> dict[str, Any] | None:
    """Return the members of the record *line* if *query* matches it, else None."""
    try:
        record = decode(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and query.matches(record) and _in_time(query, record) else None


def _in_time(query: Query, record: Mapping[str, Any]) -> bool:
    if query.since is None and query.until is None:
        return True
    try:
        return query.first_id <= bytes.fromhex(record["id"].replace("-", "")) < query.end_id
    except (KeyError, ValueError, TypeError, AttributeError):
        return False
