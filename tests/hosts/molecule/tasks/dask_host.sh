#!/bin/sh
# dask_host.sh SCHEDULER PACKAGE...: the account, a venv with these packages, and, unless SCHEDULER is empty, one that runs there.
set -eu
scheduler=$1
shift
useradd --system --home-dir /var/lib/cbm --shell /usr/sbin/nologin cbm
install --directory --owner=cbm --group=cbm /var/lib/cbm
chown cbm /etc/cbm/pki/host.key
chmod 0400 /etc/cbm/pki/host.key
mkdir -p /opt/cbm/releases/one
ln -s /opt/cbm/releases/one /opt/cbm/current
python3 -m venv /opt/cbm/current/venv
/opt/cbm/current/venv/bin/pip install --quiet --disable-pip-version-check --constraint=/opt/constraints.txt "$@"
[ -n "$scheduler" ] || exit 0
pki=/etc/cbm/pki
systemd-run --unit=scheduler --uid=cbm --property=Restart=always /opt/cbm/current/venv/bin/dask scheduler --host "$scheduler" --port 8786 \
    --protocol tls --tls-ca-file $pki/ca.pem --tls-cert $pki/host.pem --tls-key $pki/host.key --no-dashboard --dashboard-address 127.0.0.1:0
