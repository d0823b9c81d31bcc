#!/bin/sh
# Reloads and restarts what has rules of its own. Debian's own unit flushes all tables, Docker's too.
set -eu
systemctl reload cbm-firewall
systemctl restart cbm-firewall
systemctl start nftables
systemctl reload nftables
systemctl restart nftables
systemctl restart docker
for container in open closed; do
    timeout 30 sh -c "until docker exec $container /usr/bin/curl --silent --fail --output /dev/null http://127.0.0.1/; do sleep 0.5; done"
done
