#!/bin/sh
# Runs what the network has, at the cloud's address and another family's too. Prints this host's address and the certificate.
set -eu
cd /var/tmp
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=outside -addext subjectAltName=DNS:outside \
    -keyout outside.key -out outside.pem
ip address replace 169.254.169.254/32 dev lo
sysctl --quiet --write net.ipv6.conf.eth0.disable_ipv6=0
ip address replace fd00:cb::2/64 dev eth0 nodad
systemd-run --unit=outside /usr/bin/python3 /var/tmp/outside.py /var/tmp/outside.pem /var/tmp/outside.key
getent ahostsv4 "$(hostname)" | head -n 1 | cut -d ' ' -f 1
cat outside.pem
