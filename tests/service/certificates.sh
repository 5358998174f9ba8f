#!/usr/bin/env bash
# Makes the certificates of a test: a CA (ca.pem), a server of it for the name localhost (server.pem, server.key),
# and a CA that signed nothing (other-ca.pem). Nothing of it is kept or trusted anywhere else.
set -euo pipefail
[ $# = 1 ] || { echo "usage: certificates.sh DIR" >&2; exit 2; }
mkdir -p "$1"; cd "$1"
quiet() { "$@" 2>openssl.log || { cat openssl.log >&2; return 1; }; }
ca() {
  quiet openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout "$1.key" -out "$1.pem" \
    -subj "/CN=$2" -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}
ca ca "CA of a test"
ca other-ca "CA of nobody"
quiet openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=localhost
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' >server.ext
quiet openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem
