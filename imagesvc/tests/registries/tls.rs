//! Leave to show a certificate that nobody vouches for is one host's, not that of whom it leads to.

use std::sync::Arc;

use imagesvc::Config;
use runtime_core::error::ErrorKind;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::image::{Image, digest_of, tar_of};
use super::node::Node;
use super::scripted::{Answer, Scripted};
use super::{hosts, quick, text};

/// For 127.0.0.1 until 2126, signed by itself; made by
/// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -addext subjectAltName=IP:127.0.0.1`.
const CERTIFICATE: &[u8] = include_bytes!("certificate/self-signed.pem");
const KEY: &[u8] = include_bytes!("certificate/key.pem");

/// https in front of a registry that speaks http.
struct Tls {
    address: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Tls {
    #[expect(clippy::disallowed_methods, reason = "a test has no task group")]
    async fn in_front_of(registry: &Scripted) -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let behind = registry.address.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((outside, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    // A client that does not like the certificate hangs up.
                    let Ok(mut outside) = acceptor.accept(outside).await else { return };
                    let mut inside = TcpStream::connect(behind).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
                });
            }
        });
        Self { address, accepting }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leniency_with_a_certificate_does_not_follow_a_redirect() {
    let layer = tar_of(b"x");
    let image = Image::of(&[&layer]);
    let honest = image.clone();
    let registry = Scripted::start(move |request| honest.answer(request)).await;
    let storage = Tls::in_front_of(&registry).await;
    let (target, digest) = (storage.address.clone(), digest_of(&layer));
    let leading = Scripted::start(move |request| {
        if request.path.contains(&digest) {
            let head = format!("307 Temporary Redirect\r\nlocation: https://{target}{}", request.path);
            return Answer::new(&head, b"");
        }
        image.answer(request)
    })
    .await;
    let leading = Tls::in_front_of(&leading).await;
    for (host, refused) in [(&storage, false), (&leading, true)] {
        let folder = tempfile::tempdir().unwrap();
        let toml = format!("server = \"https://{}\"\nskip_verify = true\n", host.address);
        let config = Config { config_path: hosts(folder.path(), "reg.example", &toml), ..quick() };
        let node = Node::open(folder.path(), config).await;
        let pulled = node.pull("reg.example/app:1").await;
        if refused {
            let error = pulled.unwrap_err();
            let message = text(&error);
            assert!(message.contains(&storage.address) && message.contains("certificate"), "{message}");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(node.service.list(None).unwrap(), []);
        } else {
            pulled.unwrap();
        }
        node.store.close();
    }
}
