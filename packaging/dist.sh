#!/usr/bin/env bash
# Makes the archive that is shipped: a static binary with what belongs to it, and checksums.
#
#   packaging/dist.sh               builds for x86_64-unknown-linux-musl; result in target/dist
#   BINARY=... packaging/dist.sh    packs a binary that is there already
#   OUT=...                         another folder for the result
#
# Needed beside Rust: the target (rustup target add x86_64-unknown-linux-musl), a C compiler for it
# (Debian: musl-tools), Python 3.11, GNU tar.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-musl
out=${OUT:-target/dist}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
export TIDEMILL_COMMIT=${TIDEMILL_COMMIT-$(git describe --always --dirty --abbrev=12 2>/dev/null || true)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

if [ -z "${BINARY:-}" ]; then
  cargo build --locked --release --package tidemill --bin tidemill --target "$target"
  BINARY=${CARGO_TARGET_DIR:-target}/$target/release/tidemill
  # Runs on any Linux of that architecture: asks for no loader and for no library.
  if readelf --program-headers "$BINARY" | grep -q INTERP; then
    echo "$BINARY is not static" >&2
    exit 1
  fi
  readelf --file-header "$BINARY" | grep -q 'DYN' || { echo "$BINARY is not position independent" >&2; exit 1; }
fi

name=tidemill-$version-x86_64-linux
mkdir -p "$out"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
folder=$stage/$name
mkdir -p "$folder"/{completions,man1,config}
install -m 755 "$BINARY" "$folder/tidemill"
"$folder/tidemill" --version | sed 's/^tidemill //' >"$folder/VERSION"
install -m 644 LICENSE "$folder/LICENSE"
python3 -B packaging/licences.py --target "$target" >"$folder/THIRD-PARTY-LICENSES.txt"
install -m 644 packaging/tidemill@.service packaging/prometheus-alerts.yml "$folder/"
install -m 644 config/example.toml "$folder/config/"
"$folder/tidemill" man --out "$folder/man1"
"$folder/tidemill" completions bash >"$folder/completions/tidemill.bash"
"$folder/tidemill" completions zsh >"$folder/completions/_tidemill"
"$folder/tidemill" completions fish >"$folder/completions/tidemill.fish"

# The same files give the same bytes, whoever packs them and when.
tar --create --directory "$stage" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
  --numeric-owner --mode=u+rwX,go+rX,go-w "$name" | gzip --no-name --best >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" >SHA256SUMS)
cat "$out/SHA256SUMS"
