//! The certificate that the kubelet API is served with: one for the address of this process, whatever ports and Nodes it answers for.
//!
//! * [`ServingTask`] asks the cluster's signer for it, as a kubelet does, renews it, and serves one of its own making while there is none.
//!   [`ServingHandle`]: what a TLS server takes, and what the Nodes tell of it.
//! * [`Approver`] approves those requests and no others: nothing in Kubernetes approves this signer's by itself.
//! * `material`: keys, requests and certificates. `file`: where they outlive the process. `request`: what a request of anybody asks for.
//!
//! Which request is right and when a certificate is due is decided in `virtual_kubelet_core::serving`. It must not know who serves what.

mod approver;
mod file;
mod material;
mod request;
mod task;

pub use approver::Approver;
pub use file::CertificateFile;
pub use material::MaterialError;
pub use task::{CertificateSource, ServingHandle, ServingOptions, ServingTask};

/// Where requests for certificates are.
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
