//! HTTP connections: TLS with the right roots, and what a refused certificate means.
//!
//! Certificates are always checked; there is no key that turns this off.

use std::{error::Error, io, path::Path, time::Duration};

use clickhouse::{Client, Compression};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::config::ClickHouseConfig;
use crate::error::SinkError;

/// An idle connection is not used again after this time: servers close theirs after 3 s or more.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// Returns a client that connects when it is used.
pub(super) fn client(config: &ClickHouseConfig) -> Result<Client, SinkError> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(config.connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(60)));
    connector.set_nodelay(true);
    connector.enforce_http(false);
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_MAX);
    let client = if config.url.starts_with("https://") {
        let https = HttpsConnectorBuilder::new();
        let https = match &config.ca_file {
            Some(path) => https.with_tls_config(trust_only(path)?),
            None => https
                .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
                .map_err(|error| SinkError::Config {
                    key: "url",
                    problem: format!(
                        "https is not possible, no usable root certificates: {error}; install \
                         them, or set ca_file"
                    ),
                })?,
        };
        let connector = https.https_only().enable_http1().wrap_connector(connector);
        Client::with_http_client(builder.build(connector))
    } else {
        Client::with_http_client(builder.build(connector))
    };
    let mut client =
        client.with_url(&config.url).with_compression(Compression::Lz4).with_validation(false);
    if let Some(user) = &config.user {
        client = client.with_user(user);
    }
    if let Some(password) = &config.password {
        client = client.with_password(password);
    }
    Ok(client)
}

/// Returns a configuration that trusts the certificates of a file and nothing else.
fn trust_only(path: &Path) -> Result<ClientConfig, SinkError> {
    let fail = |problem: String| SinkError::Config {
        key: "ca_file",
        problem: format!("{path:?}: {problem}; write the PEM file of the CA"),
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| fail(e.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("holds no certificate".into()));
    }
    let provider = rustls::crypto::ring::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the versions that are compiled in");
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Returns what to do if an error comes from a certificate that was refused.
pub(super) fn certificate_remedy(
    error: &(dyn Error + 'static),
    ca_file: Option<&Path>,
) -> Option<String> {
    let remedy = match certificate_error(error)? {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "write a name in url that is in the certificate".to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the certificate, or set this machine's clock".to_owned()
        }
        _ => match ca_file {
            Some(path) => format!("it is not from the CA in ca_file = {path:?}"),
            None => "set ca_file to the PEM file of the CA that signed it".to_owned(),
        },
    };
    Some(format!("the server's certificate is not trusted: {remedy}"))
}

/// Looks through causes, also through those that an `io::Error` wraps and does not name as cause.
fn certificate_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CertificateError> {
    let mut next: Option<&'e (dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() {
            return Some(problem);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}
