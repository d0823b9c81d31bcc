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
  revoked_at timestamptz,
  UNIQUE (user_name, label)
);
COMMENT ON TABLE api_token IS 'Bearer tokens; hash is the sha256 of 32 random bytes.';

CREATE TABLE api_lockout (
  user_name text NOT NULL,
  address inet NOT NULL,
  failures integer NOT NULL,
  last_failure timestamptz NOT NULL DEFAULT now(),
  locked_until timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_name, address)
);
COMMENT ON TABLE api_lockout IS 'Failed logins by user and client address, known users or not.';

GRANT SELECT ON api_user, api_token TO cbm_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON api_lockout TO cbm_api;

CREATE INDEX audit_at ON audit (at);
