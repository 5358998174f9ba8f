//! How commands that take a broker's address get in: options that mean what the keys of
//! `[source.pulsar]` mean. No option takes a token itself: it would stand in the list of processes.

use std::path::PathBuf;

use clap::Args;
use tidemill_pulsar::{Auth, ClientConfig};

use super::{Failure, toml_quoted, toml_text};
use crate::config::Secret;

#[derive(Debug, Args)]
pub(super) struct BrokerAccess {
    /// Token for the broker, written as in a configuration: file:/path, or ${NAME} for an
    /// environment variable.
    #[arg(long, value_name = "WHERE")]
    token: Option<String>,
    /// Trusted authorities of a pulsar+ssl:// broker, PEM [default: the operating system's].
    #[arg(long, value_name = "FILE")]
    tls_ca_file: Option<PathBuf>,
}

impl BrokerAccess {
    /// Returns how to connect to a broker.
    pub(super) fn client(&self, url: &str) -> Result<ClientConfig, Failure> {
        let auth = match &self.token {
            None => Auth::None,
            Some(text) if !text.starts_with("file:") && !text.starts_with("${") => {
                let remedy = "write file:/path or ${NAME}, so that no list of processes shows it";
                return Err(Failure::usage(format!("--token holds the token itself; {remedy}")));
            }
            Some(text) => {
                let secret = Secret::read(text, &|name| std::env::var(name).ok());
                let secret = secret.map_err(|text| Failure::usage(format!("--token {text}")))?;
                Auth::Token(secret.expose().to_owned())
            }
        };
        let tls_ca_file = self.tls_ca_file.clone();
        Ok(ClientConfig { auth, tls_ca_file, ..ClientConfig::new(url) })
    }

    /// Returns the same as lines of `[source.pulsar]`.
    pub(super) fn lines(&self) -> String {
        let file = self
            .tls_ca_file
            .as_ref()
            .map(|path| format!("tls_ca_file = {}\n", toml_text(&path.display().to_string())));
        let token = self.token.as_ref().map(|text| format!("token = {}\n", toml_quoted(text)));
        [token, file].into_iter().flatten().collect()
    }
}
