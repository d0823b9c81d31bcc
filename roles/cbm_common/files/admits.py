"""Exits with 3 unless an address (first argument) lies in one of the networks (the others)."""

import ipaddress
import sys

address = ipaddress.ip_address(sys.argv[1].partition("%")[0])
address = getattr(address, "ipv4_mapped", None) or address
networks = [ipaddress.ip_network(one, strict=False) for one in sys.argv[2:]]
sys.exit(0 if any(address in network for network in networks) else 3)
