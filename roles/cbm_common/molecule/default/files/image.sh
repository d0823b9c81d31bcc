#!/bin/sh
# An image that holds a web server, a page and curl, made of this host's own files.
set -eu
root=$(mktemp -d)
mkdir "$root/www" "$root/tmp"
echo container > "$root/www/index.html"
for file in /bin/busybox /usr/bin/curl $(ldd /usr/bin/curl | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$file")"
    cp --dereference "$file" "$root$file"
done
tar -C "$root" -c . | docker import - local/container
rm -r "$root"
