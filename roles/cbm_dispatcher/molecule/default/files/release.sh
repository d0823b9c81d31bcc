#!/bin/sh
# The command of a release, its database as the roles leave it, and the settings that lead to it.
set -eu
install --mode=0755 /opt/tests/cbm.py /opt/cbm/current/venv/bin/cbm
install --mode=0644 /opt/tests/cbm.toml /etc/cbm/cbm.toml
DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install postgresql postgresql-postgis
# Who may log in is not what this scenario is about: everybody of this host is let in.
echo "local all all trust" > /etc/postgresql/15/main/pg_hba.conf
systemctl reload postgresql@15-main.service
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --file=/opt/tests/database.sql
runuser -u cbm -- /opt/cbm/current/venv/bin/cbm --config /etc/cbm/cbm.toml schema migrate
