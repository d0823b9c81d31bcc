#!/bin/sh
# dask_pack.sh FOLDER HOST CHECKOUT FILES [PACKAGE...]: makes an authority and the host's certificate.
# FOLDER/host.tar then holds what the host gets: these, pinned versions, the tests' files, and packages of the checkout's code.
set -eu
folder=$1 host=$2 checkout=$3 files=$4
shift 4
tree=$folder/tree
rm -rf "$folder"
mkdir -p "$tree/etc/cbm/pki" "$tree/opt"
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
# shellcheck disable=SC2086
openssl req -x509 $key -days 30 -subj "/CN=tests' authority" -keyout "$folder/ca.key" -out "$tree/etc/cbm/pki/ca.pem"
# shellcheck disable=SC2086
openssl req -x509 $key -days 30 -subj "/CN=$host" -addext "subjectAltName=DNS:$host,IP:127.0.0.1" -addext basicConstraints=CA:FALSE \
    -CA "$tree/etc/cbm/pki/ca.pem" -CAkey "$folder/ca.key" -keyout "$tree/etc/cbm/pki/host.key" -out "$tree/etc/cbm/pki/host.pem"
cp "$checkout/constraints/python.txt" "$tree/opt/constraints.txt"
cp -r "$files" "$tree/opt/tests"
mkdir "$tree/opt/code"
for package in "$@"; do cp -r "$checkout/$package" "$tree/opt/code"; done
tar --create --file="$folder/host.tar" --exclude=__pycache__ --directory="$tree" etc opt
