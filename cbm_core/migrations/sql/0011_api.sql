-- cbm: expand
-- Who may ask the API, and what it must remember of them. Grants stand in dataset_grant (via api).

CREATE TABLE api_user (
  name text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$'),
  password_hash text,
  created_at timestamptz NOT NULL DEFAULT now(),
  disabled_at timestamptz
);
COMMENT ON TABLE api_user IS 'Users of the API; password_hash is argon2id in PHC format, NULL for users who only have tokens.';

CREATE TABLE api_token (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_name text NOT NULL REFERENCES api_user ON DELETE CASCADE,
  label text NOT NULL,
  hash bytea NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz
);
-- A revoked token stays, so that the trail still names it; its label is free again.
CREATE UNIQUE INDEX api_token_label ON api_token (user_name, label) WHERE revoked_at IS NULL;
COMMENT ON TABLE api_token IS 'Bearer tokens; hash is the sha256 of the token, which holds 32 random bytes.';

CREATE TABLE api_lockout (
  user_name text NOT NULL,
  address inet NOT NULL,
  failures integer NOT NULL,
  last_failure timestamptz NOT NULL DEFAULT now(),
  locked_until timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_name, address)
);
CREATE INDEX api_lockout_last_failure ON api_lockout (last_failure);
COMMENT ON TABLE api_lockout IS 'Failed logins by user and client address (IPv6: network of 64 bits); user_name '''' counts an address''s, whoever it named.';

GRANT SELECT ON api_user, api_token TO cbm_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON api_lockout TO cbm_api;

CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_reads ON audit (at) WHERE action = 'read';

-- The API keeps its log of reads short by itself; it cannot take away what is younger than a month.
CREATE FUNCTION forget_reads(days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, cbm, pg_temp AS $$
DECLARE
  forgotten integer;
BEGIN
  IF days < 30 THEN
    RAISE EXCEPTION 'the log of reads is kept for 30 days at least' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  DELETE FROM cbm.audit WHERE id = ANY (ARRAY(
    SELECT id FROM cbm.audit WHERE action = 'read' AND at < now() - make_interval(days => days)
    ORDER BY at LIMIT 5000 FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;
COMMENT ON FUNCTION forget_reads IS 'Deletes up to 5000 reads that were logged longer ago, the oldest first, and says how many.';
REVOKE ALL ON FUNCTION forget_reads FROM PUBLIC;
GRANT EXECUTE ON FUNCTION forget_reads TO cbm_api;
