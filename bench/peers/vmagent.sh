#!/usr/bin/env bash
# Builds vmagent: vmagent.sh FILE. Needs Go. Its module replaces others, so `go install` refuses it.
set -euo pipefail
out=$(realpath -m -- "$1")
[[ ! -x $out ]] || exit 0
module=github.com/VictoriaMetrics/VictoriaMetrics@v0.0.0-20250718125606-9d9bea03485e
source=$(mktemp -d "$(dirname -- "$out")/vmagent-source.XXXXXX")
trap 'rm -rf -- "$source"' EXIT
cd "$source"
found=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$found/." .
chmod -R u+w .
go build -o "$out" ./app/vmagent
