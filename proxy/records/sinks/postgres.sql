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
CREATE INDEX IF NOT EXISTS records_side ON payproxy.records (route, side, origin, id) INCLUDE (caller, status, time);
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

CREATE OR REPLACE FUNCTION payproxy.members(record text) RETURNS json
LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (CASE strpos(record, '\u') WHEN 0 THEN record ELSE regexp_replace(record, '\\(u....|.)', '?', 'g') END)::json
$$;

CREATE OR REPLACE FUNCTION payproxy.tallies(routes text[], first uuid, beyond text[])
RETURNS TABLE (
  route text, side text, credential text, caller text, requests bigint, held_back bigint, failed bigint,
  client_errors bigint, fine bigint, last timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH taken (route, side, credential, caller, status, bank, code, time) AS (
    SELECT r.route, r.side, '', r.caller, r.status, true, '', r.time FROM payproxy.records AS r
    WHERE r.route = ANY (routes) AND r.side = ANY (ARRAY['legacy', 'modern'])
      AND r.origin = ANY (ARRAY['bank']) AND r.id >= first
    UNION ALL
    SELECT r.route, r.side, '', r.caller, r.status, false, payproxy.members(r.record)->>'code', r.time FROM payproxy.records AS r
    WHERE r.route = ANY (routes) AND r.side = ANY (ARRAY['legacy', 'modern'])
      AND r.origin = ANY (ARRAY['proxy']) AND r.id >= first
    UNION ALL
    SELECT r.route, r.side, payproxy.members(r.record)->>'credential', r.caller, r.status, r.origin = 'bank',
      CASE WHEN r.origin = 'bank' THEN '' ELSE payproxy.members(r.record)->>'code' END, r.time
    FROM payproxy.records AS r
    WHERE r.route = ANY (routes) AND r.side = ANY (ARRAY['']) AND r.id >= first
  ), judged AS (
    SELECT t.*, t.code <> '' AND NOT t.code = ANY (beyond) AS held,
      t.status >= 500 OR t.bank AND t.status = 401 AS bad
    FROM taken AS t
  )
  SELECT j.route, j.side, j.credential, j.caller, count(*),
    count(*) FILTER (WHERE j.held),
    count(*) FILTER (WHERE NOT j.held AND j.bad),
    count(*) FILTER (WHERE NOT j.held AND NOT j.bad AND j.status >= 400),
    count(*) FILTER (WHERE NOT j.held AND j.status BETWEEN 200 AND 299),
    max(j.time)
  FROM judged AS j
  GROUP BY j.route, j.side, j.credential, j.caller
$$;
REVOKE ALL ON FUNCTION payproxy.tallies(text[], uuid, text[]) FROM PUBLIC;

-- What the proxy logs in as: it adds records and months, and can neither read, change nor delete any; the guard of a
-- migration gets numbers of them.
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
    GRANT EXECUTE ON FUNCTION payproxy.tallies(text[], uuid, text[]) TO payproxy_writer;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'payproxy_reader') THEN
    GRANT USAGE ON SCHEMA payproxy TO payproxy_reader;
    GRANT SELECT ON payproxy.records, payproxy.lookups TO payproxy_reader;
    GRANT EXECUTE ON FUNCTION payproxy.tallies(text[], uuid, text[]) TO payproxy_reader;
  END IF;
END
$$;
