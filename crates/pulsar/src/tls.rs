//! TLS of connections: which authorities are trusted, and the handshake.
//!
//! The certificate must be signed by a trusted authority and carry the host name (or address) that
//! was connected to; neither check can be turned off. Certificates of the client are not sent.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::Error;

/// A file of authorities may hold so many certificates.
const AUTHORITIES_MAX: usize = 10_000;

/// What a client trusts; clones share it.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tls(..)")
    }
}

impl Tls {
    /// Trusts the authorities in a PEM file, or those of the operating system.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(path) => add_file(&mut roots, path)?,
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            let value = ca_file.map(|path| path.display().to_string()).unwrap_or_default();
            let problem = "no trusted authority was found; name a PEM file of authorities".into();
            return Err(Error::Tls { key: "tls_ca_file", value, problem });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// Makes a connection secret and checks who the other side is; `address` is `host:port`.
    pub(crate) async fn secure(
        &self,
        address: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let fail = |problem: String| Error::Tls { key: "url", value: address.to_owned(), problem };
        let name = ServerName::try_from(host).map_err(|error| fail(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream).await.map_err(|error| {
            // What rustls refuses stays refused; a socket that ends may do better next time.
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(refused) => fail(refused.to_string()),
                None => Error::Io { address: address.to_owned(), problem: error.to_string() },
            }
        })
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let fail = |problem: String| {
        let value = path.display().to_string();
        Error::Tls { key: "tls_ca_file", value, problem }
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
    for certificate in found.take(AUTHORITIES_MAX) {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_authorities_is_refused_with_its_name() {
        for (path, reason) in [
            ("no/such/file.pem", "file.pem"),
            (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "no trusted authority"),
        ] {
            let error = Tls::new(Some(Path::new(path))).unwrap_err();
            assert!(!error.retry() && error.to_string().contains(reason), "{error}");
        }
    }
}
