//! `tidemill init`: a configuration from a sample, each guess with what it rests on.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use tidemill_decode::{DecodeLimits, JsonDecoder};
use tidemill_kernel::event::{EventBlock, Position};

use super::{Failure, broker::BrokerAccess, toml_text};
use crate::{
    config::{Config, PRESETS},
    sample::{
        FieldGuess, Guesses, Observed, Order, Sampled, from_file, from_topic, guess, observe,
    },
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to look at: a file of one JSON message per line (plain, gzip or zstd), or a Pulsar
    /// topic such as persistent://public/default/iot-sensor-data.
    #[arg(long, value_name = "FILE|TOPIC")]
    from: String,
    /// The broker of a topic.
    #[arg(long, default_value = "pulsar://127.0.0.1:6650")]
    url: String,
    #[command(flatten)]
    access: BrokerAccess,
    /// How many messages to look at, at most 64 MiB of them.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Name of the pipeline [default: made of the file or topic].
    #[arg(long)]
    name: Option<String>,
    /// Write every field out, even if a preset reads the messages.
    #[arg(long)]
    no_preset: bool,
    /// The file to write; it must not exist [default: standard output].
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A share of the sample's readable messages that a preset has to read, and of its places that it
/// has to know.
const PRESET_SHARE: f64 = 0.9;
const PRESET_PLACES_SHARE: f64 = 0.6;

/// What `[window]` gets where no field is a time.
const PUBLISHED: &str = "time = \"publish\"\n";

pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let messages_max = arguments.messages as usize;
    let is_topic = arguments.from.contains("://");
    let sample = if is_topic {
        from_topic(arguments.access.client(&arguments.url)?, &arguments.from, messages_max)
    } else {
        from_file(Path::new(&arguments.from), messages_max)
    };
    let sample = sample.map_err(Failure::failed)?;
    let place = &arguments.from;
    if sample.is_empty() {
        return Err(Failure::failed(format!("{place} has no message; nothing can be guessed")));
    }
    let observed = observe(&sample);
    let guesses = guess(&observed).map_err(|text| Failure::failed(format!("{place}: {text}")))?;
    let draft = Draft { arguments, sample: &sample, observed: &observed, guesses: &guesses };
    let text = draft.text(is_topic)?;
    match &arguments.out {
        None => super::print(&text),
        Some(path) => {
            let fail = |error| Failure::failed(format!("{}: {error}", path.display()));
            let file = OpenOptions::new().write(true).create_new(true).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(fail)?;
            super::print(&format!("wrote {}; look at its comments\n", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

struct Draft<'a> {
    arguments: &'a Arguments,
    sample: &'a [Sampled],
    observed: &'a Observed,
    guesses: &'a Guesses,
}

/// How well a schema reads the sample.
struct Reading {
    event_count: usize,
    invalid_count: u64,
}

impl Draft<'_> {
    fn text(&self, is_topic: bool) -> Result<String, Failure> {
        let preset = PRESETS
            .iter()
            .filter(|_| !self.arguments.no_preset)
            .filter_map(|(name, _)| self.preset(name))
            .max_by_key(|(known_count, _)| *known_count);
        let schema = match preset {
            Some((_, schema)) => schema,
            None => self.fields(self.guesses.fields.iter()),
        };
        let body =
            [self.pipeline(), self.source(is_topic), schema, self.window(!is_topic), self.sink()];
        let body = body.join("\n");
        let environment = |name: &str| std::env::var(name).ok();
        let config = Config::parse("init", &body, &environment).map_err(|errors| {
            Failure::failed(format!("the sample leads to no usable configuration:\n{errors}"))
        })?;
        let reading = self.reading(&config);
        let mut head = format!(
            "# Written by tidemill init from {} messages of {}. Every guess is told with what it\n\
             # rests on: look at them.\n",
            self.sample.len(),
            self.arguments.from.escape_debug()
        );
        let unread = self.observed.unreadable_count;
        let _ = writeln!(
            head,
            "#\n# Of these messages, {unread} are no JSON object. This configuration makes events \
             of {},\n# with {} invalid values in them; the others would be dead letters.\n",
            reading.event_count, reading.invalid_count
        );
        Ok(head + &body)
    }

    fn name(&self) -> String {
        let last = self.arguments.from.rsplit('/').next().unwrap_or_default();
        let stem = last.split('.').next().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
        let name: String = stem.chars().map(plain).take(48).collect();
        let is_column = name.starts_with(|c: char| c.is_ascii_alphabetic());
        let default = if is_column { name } else { format!("pipeline_{name}") };
        self.arguments.name.clone().unwrap_or(default)
    }

    fn pipeline(&self) -> String {
        format!("[pipeline]\nname = {}\n", toml_text(&self.name()))
    }

    fn source(&self, is_topic: bool) -> String {
        let from = toml_text(&self.arguments.from);
        if is_topic {
            let url = toml_text(&self.arguments.url);
            let subscription = toml_text(&format!("tidemill-{}", self.name()));
            return format!(
                "[source.pulsar]\nurl = {url}\n{}topic = {from}\nsubscription = {subscription}\n",
                self.arguments.access.lines()
            );
        }
        format!("[source.file]\npaths = [{from}]\n")
    }

    /// Returns how many of the sample's places a preset knows, and the schema made of it.
    fn preset(&self, name: &str) -> Option<(usize, String)> {
        let used = format!("[schema]\npreset = {name:?}\n");
        let config = self.parsed(&used)?;
        let reading = self.reading(&config);
        let readable_count = self.observed.readable_count();
        let knows = |guess: &&FieldGuess| {
            config
                .schema
                .fields()
                .iter()
                .any(|field| field.path == guess.path || field.aliases.contains(&guess.path))
        };
        let places = self.guesses.fields.len();
        let known_count = self.guesses.fields.iter().filter(knows).count();
        let is_read = reading.event_count as f64 >= readable_count as f64 * PRESET_SHARE
            && reading.invalid_count * 10 <= reading.event_count as u64;
        if !is_read || (known_count as f64) < places as f64 * PRESET_PLACES_SHARE {
            return None;
        }
        let mut text = format!(
            "[schema]\n# Guess: {known_count} of the {places} fields of the sample are fields of \
             this preset, which reads\n# {} of {readable_count} messages. --no-preset writes \
             every field out.\npreset = {name:?}\n",
            reading.event_count
        );
        let unknown: Vec<&FieldGuess> =
            self.guesses.fields.iter().filter(|guess| !knows(guess)).collect();
        let own: Vec<&FieldGuess> = unknown
            .into_iter()
            .filter(|guess| !["key", "time"].contains(&guess.role))
            .filter(|guess| config.schema.columns().iter().all(|c| c.name != guess.name))
            .collect();
        if !own.is_empty() {
            text.push_str("\n# The preset does not have these fields.\n");
            own.iter().for_each(|guess| text.push_str(&entry(guess)));
        }
        self.parsed(&text).map(|_| (known_count, text))
    }

    fn parsed(&self, schema: &str) -> Option<Config> {
        let time = if self.guesses.time_is_published { PUBLISHED } else { "" };
        let rest = "[source.stdin]\n[sink.stdout]\n[window]\n";
        let text = [&self.pipeline(), rest, time, schema].concat();
        Config::parse("init", &text, &|_| None).ok()
    }

    fn fields<'g>(&self, fields: impl Iterator<Item = &'g FieldGuess>) -> String {
        let mut text = String::new();
        for note in &self.guesses.notes {
            let _ = writeln!(text, "# {}.", note.escape_debug());
        }
        fields.for_each(|guess| text.push_str(&entry(guess)));
        text
    }

    fn window(&self, is_file: bool) -> String {
        let Order { disorder_ms, usual_disorder_ms, ahead_ms } = self.guesses.order;
        let seconds = |ms: i64| ms.div_euclid(1000) + i64::from(ms.rem_euclid(1000) > 0);
        // A few very late events are dead letters; they shall not hold up all the others.
        let wait_s = match seconds(disorder_ms) {
            all_s @ ..=5 => all_s.max(5),
            _ => seconds(usual_disorder_ms).clamp(5, 600),
        };
        let mut text = format!(
            "[window]\nsize = \"1m\"\n\
             # Guess: events of the sample lie up to {disorder_ms} ms behind the newest one \
             before\n\
             # them, 999 of 1000 up to {usual_disorder_ms} ms. What is further behind \
             may be late.\n\
             max_out_of_orderness = \"{wait_s}s\"\n"
        );
        if self.guesses.time_is_published {
            text.push_str(
                "# Guess: no field reads as a time in nearly every message (RFC 3339, or a number \
                 since 1970),\n# so what counts is when messages were published: by the broker's \
                 clock where it stamps them.\n",
            );
            if is_file {
                text.push_str(
                    "# Of a file that is its modification time: all its messages are one window.\n",
                );
            }
            text.push_str(PUBLISHED);
        }
        if ahead_ms > 300_000 {
            let days = ahead_ms.div_euclid(86_400_000).saturating_add(1).min(3_660);
            let _ = write!(
                text,
                "# Guess: events of the sample are up to {} s ahead of their publish time, which \
                 of a file is\n# its modification time. They would be dead letters.\n\
                 max_future_skew = \"{days}d\"\n",
                seconds(ahead_ms)
            );
        }
        text
    }

    fn sink(&self) -> String {
        let name = self.name();
        format!(
            "# Rows go to a file that needs no server. For ClickHouse, replace it by\n\
             #   [sink.clickhouse]\n#   url = \"http://127.0.0.1:8123\"\n\
             #   table = {}\n[sink.embedded]\npath = {}\ntable = {}\n",
            toml_text(&format!("default.{}", name.replace('-', "_"))),
            toml_text(&format!("{name}.db")),
            toml_text(&name.replace('-', "_"))
        )
    }

    /// Decodes the sample with the schema of a configuration.
    fn reading(&self, config: &Config) -> Reading {
        let mut block = EventBlock::new(&config.schema);
        let mut decoder = JsonDecoder::new(config.schema.clone(), DecodeLimits::default());
        let mut reading = Reading { event_count: 0, invalid_count: 0 };
        for message in self.sample {
            block.clear();
            let position = Position::default();
            decoder.decode(&message.payload, position, message.publish_time_ms, &mut block);
            let event = block.message(0);
            if event.reject().is_none() {
                reading.event_count += 1;
                reading.invalid_count += u64::from(event.invalid_count());
            }
        }
        reading
    }
}

/// Returns a field as a `[[schema.field]]` entry.
fn entry(guess: &FieldGuess) -> String {
    let role = guess.role;
    let mut text = format!("\n[[schema.field]]\n# Guess: {}.\n", guess.evidence.escape_debug());
    let _ = writeln!(text, "name = {}", toml_text(&guess.name));
    let _ = writeln!(text, "role = {role:?}");
    if guess.path.len() > 1 || guess.path[0] != guess.name {
        let levels: Vec<String> = guess.path.iter().map(|level| toml_text(level)).collect();
        let _ = match &guess.path[..] {
            [only] if !only.contains('.') => writeln!(text, "path = {}", toml_text(only)),
            _ => writeln!(text, "path = [{}]", levels.join(", ")),
        };
    }
    if let Some(value_type) = guess.value_type {
        let _ = writeln!(text, "type = {value_type:?}");
    }
    for (name, value) in &guess.settings {
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}
