-- A database as the roles leave it.
CREATE DATABASE cbm;
\connect cbm
\include /opt/cbm/current/venv/lib/python3.11/site-packages/cbm_core/migrations/bootstrap.sql
CREATE ROLE cbm_admin LOGIN IN ROLE cbm_owner;
CREATE ROLE cbm_extractor LOGIN IN ROLE cbm_ingest;
