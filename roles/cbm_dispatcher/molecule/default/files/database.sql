-- A database as the roles leave it.
CREATE DATABASE cbm;
\connect cbm
\include /opt/code/cbm_core/migrations/bootstrap.sql
CREATE ROLE cbm_admin LOGIN IN ROLE cbm_owner;
CREATE ROLE cbm_extractor LOGIN IN ROLE cbm_ingest;
