//! TLS: which certificates are trusted.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use trestle_process::exit::Exit;

use super::flags::Trust;

/// # Errors
/// An [`Exit`] with code 64 for a file that has no certificates, 71 for a system that has none.
pub(super) fn connector(trust: &Trust) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("ring has them")?;
    let config = match trust {
        Trust::Any => config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        trusted => config.with_root_certificates(roots(trusted)?),
    };
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

fn roots(trust: &Trust) -> Result<RootCertStore, Exit> {
    let mut roots = RootCertStore::empty();
    let Trust::File(path) = trust else {
        let found = rustls_native_certs::load_native_certs();
        // A certificate of the system that cannot be read vouches for nobody.
        let (n_taken, _) = roots.add_parsable_certificates(found.certs);
        if n_taken == 0 {
            let hint = "install ca-certificates, or name a file with --cacert";
            return Err(Exit::os(format!("this system trusts no certificates: {hint}")));
        }
        return Ok(roots);
    };
    let refuse = |reason: String| Exit::usage(format!("--cacert {}: {reason}", path.display()));
    let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("has no certificate in PEM".to_owned())) } else { Ok(roots) }
}

/// For `--insecure`: whoever holds the key of whatever certificate is believed.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
