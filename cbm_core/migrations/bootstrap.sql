-- What a superuser does once in the database that will hold the schema: roles, extension, schema.
-- Printed by `cbm schema bootstrap`, run by the role cbm_postgis; harmless when run again.
-- Logins are created beside it by whoever runs the server: members of these groups.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['cbm_owner', 'cbm_ingest', 'cbm_api', 'cbm_read'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END
$$;
CREATE EXTENSION IF NOT EXISTS postgis;
CREATE SCHEMA IF NOT EXISTS cbm AUTHORIZATION cbm_owner;
GRANT USAGE ON SCHEMA cbm TO cbm_ingest, cbm_api, cbm_read;
DO $$
BEGIN
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO cbm_owner, cbm_ingest, cbm_api, cbm_read',
                 current_database());
END
$$;
