#!/usr/bin/env bash
# A real (old) ClickHouse server, 18.16.1 from Debian bookworm, on 127.0.0.1 in a directory of its own.
# Nothing is installed: the packages are downloaded with apt-get and unpacked next to each other.
set -euo pipefail

usage() {
  cat <<'U'
usage: clickhouse.sh up|down|status|url|fetch|client [options] [-- client arguments]

  up       unpack the server if need be, start it, wait until it answers over HTTP
  down     stop the server of this state directory (and its ZooKeeper, if `up --zookeeper` started one)
  status   exit 0 and print the version when it answers, else exit 1
  url      print the HTTP address
  fetch    only download and unpack
  client   run clickhouse-client against it

options
  --http PORT        HTTP port                        (default 18123)
  --tcp PORT         native protocol port             (default 19000)
  --interserver PORT replica-to-replica port          (default 19009)
  --state DIR        data, logs, pid                  (default ${TMPDIR:-/tmp}/clickhouse-HTTPPORT)
  --cache DIR        unpacked packages                (default ${XDG_CACHE_HOME:-~/.cache}/svc-clickhouse-18.16)
  --zookeeper        start ZooKeeper too (Debian 3.8, needs java), so Replicated* tables work
  --zk PORT          its port                         (default 12181)
  --replica NAME     value of the {replica} macro     (default r1); a second server of the same cluster: give other
                     ports, another --state, another --replica, and --join-zk with the first one's --zk port
  --join-zk PORT     use a ZooKeeper that already runs on 127.0.0.1:PORT
  --shard NAME       value of the {shard} macro       (default 01)
  --cluster SPEC     a cluster for Distributed and ON CLUSTER: NAME=PORT,PORT;PORT,.. the native ports of the replicas
                     of each shard (may be given several times)
  --https PORT       HTTPS port, with the certificate in --tls
  --tls DIR          holds server.pem and server.key (made by ../certificates.sh)
  --wait SECONDS     how long to wait for readiness   (default 30)
  --wipe             with down: delete the state directory; with up: start from an empty one

Needs: Debian bookworm (or anything whose apt offers clickhouse-server), curl, dpkg-deb; root is not needed,
but package lists must be there: as root, a failed download runs `apt-get update` once and tries again.
U
}

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
http=18123; tcp=19000; inter=19009; zkport=12181; state=""; cache="${XDG_CACHE_HOME:-$HOME/.cache}/svc-clickhouse-18.16"
zk=0; joinzk=""; replica=r1; wait_s=30; wipe=0; shard=01; https=""; tls=""; clusters=()
[ $# -ge 1 ] || { usage; exit 2; }
cmd="$1"; shift
while [ $# -gt 0 ]; do
  case "$1" in
    --http) http="$2"; shift 2;; --tcp) tcp="$2"; shift 2;; --interserver) inter="$2"; shift 2;;
    --state) state="$2"; shift 2;; --cache) cache="$2"; shift 2;;
    --zookeeper) zk=1; shift;; --zk) zkport="$2"; shift 2;; --join-zk) joinzk="$2"; shift 2;;
    --shard) shard="$2"; shift 2;; --cluster) clusters+=("$2"); shift 2;;
    --https) https="$2"; shift 2;; --tls) tls="$2"; shift 2;;
    --replica) replica="$2"; shift 2;; --wait) wait_s="$2"; shift 2;; --wipe) wipe=1; shift;;
    -h|--help) usage; exit 0;; --) shift; break;;
    *) echo "clickhouse.sh: unknown option $1" >&2; usage >&2; exit 2;;
  esac
done
state="${state:-${TMPDIR:-/tmp}/clickhouse-$http}"
url="http://127.0.0.1:$http"

lib_path() { echo "$cache/root/usr/lib/$(uname -m)-linux-gnu:$cache/root/lib/$(uname -m)-linux-gnu"; }

# what apt would add to this machine for these two packages; nothing is installed
packages() {
  local pkgs
  pkgs="$(apt-get install -s --no-install-recommends clickhouse-server clickhouse-client 2>/dev/null | awk '/^Inst /{print $2}')" || true
  echo "${pkgs:-clickhouse-server clickhouse-client clickhouse-common}"
}
# shellcheck disable=SC2046
download() { (cd "$cache/arch" && apt-get -q -o APT::Sandbox::User="$(id -un)" download $(packages) >/dev/null); }

fetch() {
  [ -e "$cache/root/.done" ] && return 0
  mkdir -p "$cache"
  # two tests may start at once: the second waits and finds it done
  exec 9>"$cache/lock"; flock 9
  if [ ! -e "$cache/root/.done" ]; then unpack; fi
  exec 9>&-
}
unpack() {
  rm -rf "$cache/arch" "$cache/root"; mkdir -p "$cache/arch" "$cache/root"
  if ! download 2>"$cache/apt.log"; then
    # a fresh machine has no package lists yet
    if [ "$(id -u)" != 0 ]; then cat "$cache/apt.log" >&2; echo "clickhouse.sh: run apt-get update as root once" >&2; return 1; fi
    echo "clickhouse.sh: apt-get update (the package lists are missing or old)" >&2
    apt-get -q update >/dev/null
    download
  fi
  local d; for d in "$cache"/arch/*.deb; do dpkg-deb -x "$d" "$cache/root"; done
  rm -rf "$cache/arch" "$cache/apt.log"
  if LD_LIBRARY_PATH="$(lib_path)" ldd "$cache/root/usr/sbin/clickhouse-server" | grep 'not found' >&2; then
    echo "clickhouse.sh: a library is missing" >&2; return 1
  fi
  touch "$cache/root/.done"
}

answers() { [ "$(curl -fsS -m 2 "$url/ping" 2>/dev/null)" = "Ok." ]; }

# the pid in the state directory, if that process is still the one started from it
live_pid() {
  local p; p="$(cat "$state/pid" 2>/dev/null)" || return 1
  [ -n "$p" ] && grep -qzF -- "$state/config.xml" "/proc/$p/cmdline" 2>/dev/null && echo "$p"
}

up() {
  if live_pid >/dev/null && answers; then echo "$url"; return 0; fi
  # a bind to a taken port would only show up in the log
  if (exec 3<>"/dev/tcp/127.0.0.1/$http") 2>/dev/null; then echo "clickhouse.sh: port $http is taken" >&2; return 1; fi
  fetch
  [ $wipe = 1 ] && rm -rf "$state"
  mkdir -p "$state"/{data,tmp,user_files,format_schemas,log}
  local zkxml=""
  if [ $zk = 1 ]; then "$here/zookeeper.sh" up --port "$zkport" --state "$state/zookeeper" >&2; joinzk="$zkport"; fi
  [ -n "$joinzk" ] && zkxml="<zookeeper><node><host>127.0.0.1</host><port>$joinzk</port></node><session_timeout_ms>10000</session_timeout_ms></zookeeper>"
  local httpsxml="" clusterxml="" spec part port
  if [ -n "$https" ]; then
    httpsxml="<https_port>$https</https_port><openSSL><server><certificateFile>$tls/server.pem</certificateFile>"
    httpsxml+="<privateKeyFile>$tls/server.key</privateKeyFile><verificationMode>none</verificationMode></server></openSSL>"
  fi
  for spec in "${clusters[@]}"; do
    clusterxml+="<${spec%%=*}>"
    for part in $(tr ';' ' ' <<<"${spec#*=}"); do
      clusterxml+="<shard><internal_replication>true</internal_replication>"
      for port in $(tr ',' ' ' <<<"$part"); do clusterxml+="<replica><host>127.0.0.1</host><port>$port</port></replica>"; done
      clusterxml+="</shard>"
    done
    clusterxml+="</${spec%%=*}>"
  done
  sed -e "s|@SHARD@|$shard|g" -e "s|@HTTPS@|$httpsxml|" -e "s|@CLUSTERS@|$clusterxml|" -e "s|@STATE@|$state|g" -e "s|@HTTP@|$http|g" -e "s|@TCP@|$tcp|g" -e "s|@INTER@|$inter|g" \
      -e "s|@REPLICA@|$replica|g" -e "s|@ZOOKEEPER@|$zkxml|" "$here/config.xml.in" > "$state/config.xml"
  cp "$here/users.xml" "$state/users.xml"
  LD_LIBRARY_PATH="$(lib_path)" TZ=UTC setsid nohup "$cache/root/usr/sbin/clickhouse-server" \
    --config-file="$state/config.xml" >"$state/log/stdout" 2>&1 </dev/null &
  echo $! > "$state/pid"
  local deadline=$(( $(date +%s) + wait_s ))
  until answers; do
    # just forked, it does not have its own command line yet
    if ! kill -0 "$(cat "$state/pid")" 2>/dev/null; then echo "clickhouse.sh: the server ended at once:" >&2; tail -5 "$state"/log/* >&2; return 1; fi
    [ "$(date +%s)" -lt "$deadline" ] || { echo "clickhouse.sh: not ready after ${wait_s}s" >&2; tail -5 "$state"/log/* >&2; return 1; }
    sleep 0.1
  done
  echo "$url"
}

down() {
  local p
  if p="$(live_pid)"; then
    kill "$p"
    for _ in $(seq 100); do kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
    if kill -0 "$p" 2>/dev/null; then kill -9 "$p"; fi
  fi
  rm -f "$state/pid"
  if [ -d "$state/zookeeper" ]; then "$here/zookeeper.sh" down --state "$state/zookeeper"; fi
  if [ $wipe = 1 ]; then rm -rf "$state"; fi
}

case "$cmd" in
  up) up;;
  down) down;;
  status) answers && curl -fsS -m 5 "$url/?query=SELECT%20version()";;
  url) echo "$url";;
  fetch) fetch; echo "$cache/root";;
  client) fetch; LD_LIBRARY_PATH="$(lib_path)" exec "$cache/root/usr/bin/clickhouse-client" --host 127.0.0.1 --port "$tcp" "$@";;
  -h|--help|help) usage;;
  *) usage >&2; exit 2;;
esac
