//! What stands at the end of each command's `--help`: commands to copy. A test parses every line.

pub(super) const RUN: &str = "\
Examples:
  tidemill run sensors.toml
  tidemill run sensors.toml --log-windows
  tidemill --log-format json run sensors.toml

SIGTERM or Ctrl-C stops it in good order: it takes a last commit and ends within
limits.drain_timeout. A second one ends it at once; nothing is lost either way.

SIGHUP reads the configuration again. The log says which keys hold now, which at the next window
edge, and which need a restart; a file that \"tidemill check\" refuses changes nothing.";

pub(super) const DEMO: &str = "\
Examples:
  tidemill demo --for 30s
  tidemill demo --rate 100000 --devices 5000 --path large.db";

pub(super) const CHECK: &str = "\
Examples:
  tidemill check sensors.toml
  tidemill check sensors.toml --connect --admin http://127.0.0.1:8080";

pub(super) const INIT: &str = "\
Examples:
  tidemill init --from messages.ndjson --out sensors.toml
  tidemill init --from persistent://public/default/iot-sensor-data --out sensors.toml
  tidemill init --from persistent://public/default/iot-sensor-data --url pulsar+ssl://broker:6651 \
    --token file:/etc/tidemill/token --tls-ca-file /etc/tidemill/ca.pem";

pub(super) const EXPLAIN: &str = "\
Example:
  tidemill explain sensors.toml";

pub(super) const RESET: &str = "\
Examples:
  tidemill reset sensors.toml
  tidemill reset sensors.toml --partition 2 --accept-loss";

pub(super) const GENERATE: &str = "\
Examples:
  tidemill generate --messages 100000 --out messages.ndjson
  tidemill generate --pulsar pulsar://127.0.0.1:6650 --messages 2000000
  tidemill generate --pulsar pulsar://127.0.0.1:6650 --rate 1000 --real-pace --late-ratio 0.001";

pub(super) const DDL: &str = "\
Examples:
  tidemill ddl sensors.toml
  tidemill ddl sensors.toml --dialect legacy
  tidemill ddl sensors.toml --engine replicated --cluster metrics
  tidemill ddl sensors.toml --migrate benchmark.sensors_old";

pub(super) const QUERY: &str = "\
Examples:
  tidemill query sensors.toml --device sensor_001 --columns time,record_count,temperature
  tidemill query sensors.toml --from 2026-01-01T12:00:00Z --to 2026-01-01T13:00:00Z
  tidemill query sensors.toml --dead-letters --reason late";

pub(super) const VERIFY: &str = "\
Examples:
  tidemill verify sensors.toml
  tidemill verify sensors.toml --store-only
  tidemill verify sensors.toml --sample 100 --checklist
  tidemill verify sensors.toml --sample 100 --seed 7 --from 2026-01-01T12:00:00Z

Exit status: 0 proved, 1 a difference, 2 could not check. docs/verify.md says what is compared.";

pub(super) const REPLAY: &str = "\
Examples:
  tidemill replay sensors.toml --diff
  tidemill replay sensors.toml --diff --from 2026-01-01T12:00:00Z --to 2026-01-01T13:00:00Z
  tidemill replay sensors.toml --diff --device sensor_001
  tidemill replay sensors.toml --write --from 2026-01-01T12:00:00Z --to 2026-01-01T13:00:00Z

--diff writes nothing, --write only rows that are missing or differ. Exit status: 0 all rows are as
their messages give them, or were written so; 1 a difference, or one that --write leaves; 2 could
not check.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  tidemill completions bash > ~/.local/share/bash-completion/completions/tidemill
  tidemill completions zsh > ~/.zfunc/_tidemill
  tidemill completions fish > ~/.config/fish/completions/tidemill.fish";

pub(super) const MAN: &str = "\
Examples:
  tidemill man > tidemill.1
  tidemill man --out man1";
