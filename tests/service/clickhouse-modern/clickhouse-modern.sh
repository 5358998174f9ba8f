#!/usr/bin/env bash
# The modern ClickHouse engine (chDB 26.9) behind an HTTP front on 127.0.0.1, in a directory of its own.
set -euo pipefail

usage() {
  cat <<'U'
usage: clickhouse-modern.sh up|down|kill|status|url|fetch [options]

  up       make the Python environment if need be, start, wait until it answers, check the engine's version
  down     stop it (SIGTERM)
  kill     stop it the hard way (SIGKILL), for crash tests; `up` again continues with the same data
  status   exit 0 and print the version when it answers, else exit 1
  url      print the HTTP address
  fetch    only make the Python environment (about 175 MB to download, 590 MB on disk)

options
  --http PORT      HTTP port            (default 28123)
  --https PORT     HTTPS port, with the certificate in --tls
  --tls DIR        holds server.pem and server.key (made by ../certificates.sh)
  --state DIR      data, log, pid       (default ${TMPDIR:-/tmp}/clickhouse-modern-PORT)
  --cache DIR      Python environment   (default ${XDG_CACHE_HOME:-~/.cache}/svc-clickhouse-modern-26.9)
  --wait SECONDS   readiness timeout    (default 60)
  --wipe           with down: delete the state directory; with up: start from an empty one
  --verbose        log every request
U
}

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
want=26.9; http=28123; state=""; cache="${XDG_CACHE_HOME:-$HOME/.cache}/svc-clickhouse-modern-$want"; wait_s=60; wipe=0; extra=()
[ $# -ge 1 ] || { usage; exit 2; }
cmd="$1"; shift
while [ $# -gt 0 ]; do
  case "$1" in
    --https) extra+=(--https-port "$2"); shift 2;; --tls) extra+=(--tls "$2"); shift 2;;
    --http) http="$2"; shift 2;; --state) state="$2"; shift 2;; --cache) cache="$2"; shift 2;;
    --wait) wait_s="$2"; shift 2;; --wipe) wipe=1; shift;; --verbose) extra+=(--verbose); shift;;
    -h|--help) usage; exit 0;; *) echo "clickhouse-modern.sh: unknown option $1" >&2; usage >&2; exit 2;;
  esac
done
state="${state:-${TMPDIR:-/tmp}/clickhouse-modern-$http}"
url="http://127.0.0.1:$http"

fetch() {
  cmp -s "$here/requirements.txt" "$cache/.done" && return 0
  mkdir -p "$(dirname "$cache")"
  # two tests may start at once: the second waits and finds it done
  exec 9>"$cache.lock"; flock 9
  if ! cmp -s "$here/requirements.txt" "$cache/.done"; then
    rm -rf "$cache"; mkdir -p "$cache"
    python3 -m venv "$cache/venv"
    # without their dependencies: pandas and pyarrow are only for DataFrames
    "$cache/venv/bin/pip" install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/.done"
  fi
  exec 9>&-
}
answers() { [ "$(curl -fsS -m 2 "$url/ping" 2>/dev/null)" = "Ok." ]; }
version() { curl -fsS -m 10 "$url/?query=SELECT%20version()"; }
live_pid() {
  local p; p="$(cat "$state/pid" 2>/dev/null)" || return 1
  [ -n "$p" ] && grep -qzF -- "$state/data" "/proc/$p/cmdline" 2>/dev/null && echo "$p"
}
stop() {
  local p
  if p="$(live_pid)"; then
    kill "$1" "$p"
    for _ in $(seq 100); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    if kill -0 "$p" 2>/dev/null; then kill -9 "$p"; fi
  fi
  rm -f "$state/pid"
}

case "$cmd" in
  up)
    if live_pid >/dev/null && answers; then echo "$url"; exit 0; fi
    if (exec 3<>"/dev/tcp/127.0.0.1/$http") 2>/dev/null; then echo "clickhouse-modern.sh: port $http is taken" >&2; exit 1; fi
    fetch
    if [ $wipe = 1 ]; then rm -rf "$state"; fi
    mkdir -p "$state"
    TZ=UTC setsid nohup "$cache/venv/bin/python" "$here/front.py" --port "$http" --data "$state/data" "${extra[@]}" \
      >>"$state/log" 2>&1 </dev/null &
    echo $! > "$state/pid"
    deadline=$(( $(date +%s) + wait_s ))
    until answers; do
      if ! kill -0 "$(cat "$state/pid")" 2>/dev/null; then echo "clickhouse-modern.sh: it ended at once:" >&2; tail -5 "$state/log" >&2; exit 1; fi
      [ "$(date +%s)" -lt "$deadline" ] || { echo "clickhouse-modern.sh: not ready after ${wait_s}s" >&2; tail -5 "$state/log" >&2; exit 1; }
      sleep 0.1
    done
    got="$(version)"
    case "$got" in "$want".*) ;; *) echo "clickhouse-modern.sh: engine is $got, not $want" >&2; exit 1;; esac
    echo "$url";;
  down) stop -TERM; if [ $wipe = 1 ]; then rm -rf "$state"; fi;;
  kill) stop -KILL;;
  status) answers && version;;
  url) echo "$url";;
  fetch) fetch;;
  -h|--help|help) usage;;
  *) usage >&2; exit 2;;
esac
