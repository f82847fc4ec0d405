"""The tables of the central database, and statements that write to them."""

from importlib.resources import files

from proxy.records.months import Month

# Partitioned by month, by id: ids are UUIDv7, so a time range is an id range and the primary key finds duplicates.
# `record` is the record's exact bytes, as `logs verify` needs them; the columns before it are for queries. `lookups`
# finds records by the values of index headers, by key: the first 8 bytes of BLAKE2b.
# `add_month` runs with its owner's rights, so that the proxy needs only the right to insert; a partition is created
# beside the table and then attached, which blocks nobody.
# `tallies` counts outcomes, for nearly all requests from the index `records_side` alone. It reads a record only for
# what the columns lack: the code of the few errors made by the proxy, and the credential of requests sent before there
# was a migration. It gives counts to a role that may not read the records.
# `members` is the record for that: PostgreSQL has no text for U+0000 and lone surrogates, and would refuse to count any
# record because of one; so each escape becomes a question mark. Codes and names of credentials have none.
# The same file as config/postgres.sql, which their owner runs: only an owner can grant what comes after this line.
_ROLES = "\n-- What the proxy logs in as"
SCHEMA = files("proxy.records.sinks").joinpath("postgres.sql").read_text().partition(_ROLES)[0]

INSERT_RECORDS = """
INSERT INTO payproxy.records
  (id, time, kind, instance, sequence, caller, route, status, side, origin, sent_upstream, record)
SELECT encode(id, 'hex')::uuid, time, kind, instance, sequence, caller, route, status, side, origin, sent, record
FROM unnest($1::bytea[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
  $8::integer[], $9::text[], $10::text[], $11::text[], $12::text[])
  AS given (id, time, kind, instance, sequence, caller, route, status, side, origin, sent, record)
ON CONFLICT DO NOTHING
"""

INSERT_LOOKUPS = """
INSERT INTO payproxy.lookups (key, id)
SELECT key, encode(id, 'hex')::uuid FROM unnest($1::bytea[], $2::bytea[]) AS given (key, id)
ON CONFLICT DO NOTHING
"""


def partitions(month: Month) -> tuple[str, str]:
    """Return the tables of *month*: records and lookups."""
    suffix = f"{month.year:04d}_{month.number:02d}"
    return f"payproxy.records_{suffix}", f"payproxy.lookups_{suffix}"
