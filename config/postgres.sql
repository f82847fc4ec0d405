-- The central database of payproxy's request log, for its owner to run (PostgreSQL 13 or newer):
--   psql -f config/postgres.sql DATABASE
-- Running it again changes nothing. A role that owns the database needs none of this: payproxy makes the tables itself.

CREATE SCHEMA IF NOT EXISTS payproxy;

CREATE TABLE IF NOT EXISTS payproxy.records (
  id uuid PRIMARY KEY,
  time timestamptz NOT NULL,
  kind text NOT NULL,
  instance text NOT NULL,
  sequence bigint NOT NULL,
  caller text NOT NULL,
  route text NOT NULL,
  status integer NOT NULL,
  side text NOT NULL,
  origin text NOT NULL,
  sent_upstream text NOT NULL,
  record text NOT NULL,
  received timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (id);
CREATE INDEX IF NOT EXISTS records_caller ON payproxy.records (caller, id);
CREATE INDEX IF NOT EXISTS records_rare ON payproxy.records (id)
  WHERE sent_upstream = 'unknown' OR status >= 500 OR kind <> 'exchange';
CREATE INDEX IF NOT EXISTS records_received ON payproxy.records USING brin (received);

CREATE TABLE IF NOT EXISTS payproxy.lookups (
  key bytea NOT NULL,
  id uuid NOT NULL,
  PRIMARY KEY (key, id)
) PARTITION BY RANGE (id);

CREATE OR REPLACE FUNCTION payproxy.first_id(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE OR REPLACE FUNCTION payproxy.add_month(month date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  first date := date_trunc('month', month)::date;
  low uuid := payproxy.first_id(first::timestamp AT TIME ZONE 'UTC');
  high uuid := payproxy.first_id((first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
  parent text;
  part text;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('payproxy.add_month'));
  FOREACH parent IN ARRAY ARRAY['records', 'lookups'] LOOP
    part := parent || to_char(first, '_YYYY_MM');
    IF to_regclass('payproxy.' || part) IS NULL THEN
      EXECUTE format('CREATE TABLE payproxy.%I (LIKE payproxy.%I INCLUDING ALL)', part, parent);
      EXECUTE format(
        'ALTER TABLE payproxy.%I ATTACH PARTITION payproxy.%I FOR VALUES FROM (%L) TO (%L)', parent, part, low, high);
    END IF;
  END LOOP;
END
$$;
REVOKE ALL ON FUNCTION payproxy.add_month(date) FROM PUBLIC;

-- What the proxy logs in as: it adds records and months, and can neither read, change nor delete any.
--   CREATE ROLE payproxy_writer LOGIN PASSWORD '...';
--   postgresql://payproxy_writer:...@HOST/DATABASE?sslmode=verify-full in request_log.database_file
-- What people search with, and `payproxy logs --database-file`:
--   CREATE ROLE payproxy_reader LOGIN PASSWORD '...';
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'payproxy_writer') THEN
    GRANT USAGE ON SCHEMA payproxy TO payproxy_writer;
    GRANT INSERT ON payproxy.records, payproxy.lookups TO payproxy_writer;
    GRANT EXECUTE ON FUNCTION payproxy.add_month(date) TO payproxy_writer;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'payproxy_reader') THEN
    GRANT USAGE ON SCHEMA payproxy TO payproxy_reader;
    GRANT SELECT ON payproxy.records, payproxy.lookups TO payproxy_reader;
  END IF;
END
$$;
