//! Who a request comes from, as the kubelet finds out (`cmd/kubelet/app/auth.go`): by a client certificate of the cluster, else by a bearer
//! token that the API server knows. There are no anonymous users.

mod certificate;
mod token;

use std::sync::Arc;

use http::HeaderMap;
use kube::Client;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::client_ca::ClientRoots;
use crate::review::ReviewError;
use crate::user::User;
use token::TokenReviews;

pub use certificate::CertificateError;

/// Why it is not known who asks. The client is told `Unauthorized` and no more.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("the client certificate makes nobody known")]
    Certificate(#[from] CertificateError),
    #[error("the token was not reviewed")]
    Token(#[from] ReviewError),
}

/// Finds out who asks. One for all ports of a process.
pub struct Authenticator {
    roots: watch::Receiver<ClientRoots>,
    tokens: TokenReviews,
}

impl Authenticator {
    /// `roots` are as [`follow_client_ca`](crate::follow_client_ca) tells them; `client` may create `tokenreviews`.
    pub fn new(roots: watch::Receiver<ClientRoots>, client: Client) -> Self {
        Self {
            roots,
            tokens: TokenReviews::new(client),
        }
    }

    /// The user of a request on a connection whose peer showed these certificates, end entity first. Certificates are verified here, at each
    /// request: one that expired, or whose authority was withdrawn, does not count on connections that are open either. `None`: nobody known.
    ///
    /// # Errors
    /// [`AuthenticationError`], if nothing else makes the user known.
    pub async fn authenticate(
        &self,
        certificates: &[CertificateDer<'_>],
        headers: &HeaderMap,
    ) -> Result<Option<Arc<User>>, AuthenticationError> {
        let by_certificate = self.by_certificate(certificates);
        if let Ok(Some(user)) = by_certificate {
            return Ok(Some(Arc::new(user.authenticated())));
        }
        match token::of(headers) {
            Some(token) => Ok(self.tokens.user(&token).await?),
            None => by_certificate.map(|_| None),
        }
    }

    fn by_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<Option<User>, AuthenticationError> {
        let roots = self.roots.borrow().clone();
        match (roots, chain.split_first()) {
            (Some(roots), Some((end_entity, intermediates))) => {
                Ok(certificate::user(roots.as_ref(), end_entity, intermediates)?)
            }
            _ => Ok(None),
        }
    }
}
