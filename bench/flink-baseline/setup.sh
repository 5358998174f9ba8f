#!/usr/bin/env bash
# Fetches Apache Flink (232 MB the first time) and builds the job: setup.sh BUILD_DIR
# Prints the folder of the distribution. Needs python3 with pip, Maven and a JDK from 17 on.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
build=$(realpath -m -- "$1")
version=$(sed -n 's:.*<flink.version>\(.*\)</flink.version>.*:\1:p' "$here/pom.xml")
cache=${SERVICES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/services}
flink=$cache/flink-$version

if [[ ! -f $flink/deps/lib/flink-dist-$version.jar ]]; then
  mkdir -p "$cache"
  fetch=$(mktemp -d "$cache/.flink-fetch.XXXXXX")
  trap 'rm -rf -- "$fetch"' EXIT
  # The package has all jars of the distribution, but neither shell scripts nor configuration.
  python3 -m pip download -q --no-deps --no-binary :all: -d "$fetch" \
    "apache-flink-libraries==$version" >&2
  tar -xzf "$fetch"/*.tar.gz -C "$fetch"
  mv -- "$fetch/apache_flink_libraries-$version" "$flink"
fi
repository=$(mvn -q -B -f "$here/pom.xml" help:evaluate -Dexpression=settings.localRepository \
  -DforceStdout 2>/dev/null || true)
[[ -d $repository ]] || repository=$HOME/.m2/repository
for name in flink-dist flink-connector-files; do
  [[ -f $repository/org/apache/flink/$name/$version/$name-$version.jar ]] ||
    mvn -q -B install:install-file -Dfile="$flink/deps/lib/$name-$version.jar" -DgroupId=org.apache.flink \
      -DartifactId="$name" -Dversion="$version" -Dpackaging=jar -DgeneratePom=true >&2
done
mvn -q -B -f "$here/pom.xml" package -Dbench.out="$build" >&2
printf '%s\n' "$flink"
