#!/bin/bash
# A cluster that maps accounts to logins, certificates of an authority, and what stands in for release, API and receivers of alerts.
set -eu

cat > /etc/postgresql/15/main/pg_hba.conf <<< $'local all postgres peer\nlocal all all peer map=cbm'
cat > /etc/postgresql/15/main/pg_ident.conf <<< 'cbm prometheus cbm_monitor'
cd /
runuser -u postgres -- psql --quiet --set=ON_ERROR_STOP=1 <<< '
  SELECT pg_reload_conf();
  CREATE DATABASE cbm;
  CREATE ROLE cbm_monitor LOGIN IN ROLE pg_monitor;
  CREATE TABLE secret AS SELECT 42 AS answer;'

useradd --system --user-group cbm
mkdir -p /opt/cbm/current/venv/bin /etc/cbm/pki
ln -s /srv/stand-ins/cbm /opt/cbm/current/venv/bin/cbm
systemd-run --quiet --unit=stand-ins /usr/bin/python3 /srv/stand-ins/stand_ins.py /srv/stand-ins/alerts

cd /etc/cbm/pki
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 -subj /CN=authority -days 30 -keyout ca.key -out ca.pem "${key[@]}"
openssl req -subj /CN=monitor -addext subjectAltName=DNS:monitor,IP:127.0.0.1 -keyout host.key -out host.csr "${key[@]}"
openssl x509 -req -days 20 -copy_extensions copy -in host.csr -CA ca.pem -CAkey ca.key -out host.pem
chown prometheus host.key
chmod 0400 host.key
