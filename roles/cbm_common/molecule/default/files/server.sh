#!/bin/sh
# Runs containers and programs that listen, some of which the firewall is told of (open, 9001), others not (closed, 9002).
set -eu
DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install docker.io
outside=$(getent ahostsv4 outside | head -n 1 | cut -d ' ' -f 1)
# Docker's own names are rules, which the test flushes.
echo "$outside outside" >> /etc/hosts
ip route replace 169.254.169.254/32 via "$outside"
sysctl --quiet --write net.ipv6.conf.eth0.disable_ipv6=0
ip address replace fd00:cb::1/64 dev eth0 nodad
for port in 9001 9002; do
    systemd-run --unit=listens-$port /usr/bin/python3 -m http.server --bind :: $port
done
# The image is empty: the host's own programs run in the containers.
tar --create --files-from=/dev/null | docker import - empty
docker network create lab
for container in open:8443 closed:8080; do
    docker run --detach --restart=always --network=lab --name="${container%:*}" --publish="${container#*:}:80" \
        --volume=/usr:/usr:ro --volume=/lib:/lib:ro --volume=/lib64:/lib64:ro empty /usr/bin/python3 -m http.server 80
done
