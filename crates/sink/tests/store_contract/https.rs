//! https: the server's own TLS (18.16), and that of the front before the modern engine, with
//! certificates of a CA that only this test has.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidemill_engine::port::Store;
use tidemill_sink::{
    ClickHouseConfig, ClickHouseReader, ClickHouseStore, RowQuery, SinkError, StoreReader,
};

use crate::{
    fixture::{Row, columns, commit, keys, lane, record},
    services::clickhouse::{ClickHouse, free_ports, make_certificates},
    services::clickhouse_modern,
    target::fresh,
};

/// A server with certificates; both go when this does.
struct Secure {
    server: ClickHouse,
    folder: TempDir,
    port: u16,
}

impl Secure {
    fn start(start: fn(&[&str]) -> ClickHouse) -> Secure {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        let [port] = free_ports();
        let tls = folder.path().to_str().unwrap().to_owned();
        let server = start(&["--https", &port.to_string(), "--tls", &tls]);
        Secure { server, folder, port }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.path().join(name))
    }

    fn config(&self, host: &str) -> ClickHouseConfig {
        let plain = fresh(self.server.url());
        let url = format!("https://{host}:{}", self.port);
        ClickHouseConfig { url, ca_file: self.file("ca.pem"), ..plain }
    }
}

fn connect(config: &ClickHouseConfig) -> Result<ClickHouseStore, SinkError> {
    ClickHouseStore::connect(config.clone(), &columns(), &keys())
}

/// Opening must end with an error that is not repeated and holds all of these texts.
fn refused(config: &ClickHouseConfig, texts: &[&str]) {
    let error = connect(config).err().expect("the connection must be refused");
    let shown = error.to_string();
    assert!(!error.retry(), "{shown}");
    for text in texts {
        assert!(shown.contains(text), "{text:?} is not in: {shown}");
    }
}

fn certificates_decide(secure: &Secure) {
    let config = secure.config("localhost");
    let mut store = connect(&config).unwrap();
    let first = record(1, 1, 1);
    let rows = [Row::new(1, "sensor_1", 1.5, 1)];
    store.commit(&commit(None, &rows, Vec::new(), first.clone())).unwrap();
    assert_eq!(store.load(&lane()).unwrap(), Some(first));
    let mut reader = ClickHouseReader::connect(config, &columns(), &keys()).unwrap();
    assert_eq!(reader.rows(&RowQuery::default()).unwrap().rows.len(), 1);
    let mut other = secure.config("localhost");
    other.ca_file = secure.file("other-ca.pem");
    refused(&other, &["certificate is not trusted", "not from the CA in ca_file", "other-ca.pem"]);
    other.ca_file = None;
    let system_roots = [Path::new("/etc/ssl/certs/ca-certificates.crt"), Path::new("/etc/pki")];
    if system_roots.iter().any(|path| path.exists()) {
        refused(&other, &["certificate is not trusted", "set ca_file to the PEM file"]);
    } else {
        refused(&other, &["no usable root certificates", "set ca_file"]);
    }
    refused(&secure.config("127.0.0.1"), &["write a name in url that is in the certificate"]);
    // The plain port does not speak TLS; it may be a proxy that is restarting, so it is repeated.
    let mut plain = secure.config("localhost");
    plain.url = secure.server.url().replace("http://", "https://");
    assert!(connect(&plain).err().unwrap().retry());
}

#[test]
fn legacy_https_trusts_the_configured_ca_only() {
    certificates_decide(&Secure::start(ClickHouse::start_with));
}

#[test]
fn modern_https_trusts_the_configured_ca_only() {
    certificates_decide(&Secure::start(clickhouse_modern::start_with));
}

#[test]
fn ca_file_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let mut config = ClickHouseConfig::new("https://127.0.0.1:1", "t");
    config.ca_file = Some(path.clone());
    refused(&config, &["ca_file", "ca.pem", "No such file"]);
    std::fs::write(&path, "no certificate\n").unwrap();
    refused(&config, &["ca.pem", "holds no certificate", "write the PEM file of the CA"]);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&path, broken).unwrap();
    refused(&config, &["ca_file", "ca.pem"]);
    config.url = "http://127.0.0.1:1".into();
    refused(&config, &["ca_file", "is not https"]);
}
