//! What a PKCS #10 request asks for, read strictly: whatever is not understood is named, so that nothing is approved unread.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use virtual_kubelet_core::serving::Requested;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::material::ip;

const BEGIN: &str = "-----BEGIN ";
const LABEL: &str = "CERTIFICATE REQUEST";
/// Of the base64 in a `CertificateSigningRequest`; ours has about 800.
const LONGEST: usize = 16 << 10;

/// `None` when it is no request, or one that two readers could take for different ones.
pub(super) fn read(base64: &str) -> Option<Requested> {
    if base64.len() > LONGEST {
        return None;
    }
    let pem = STANDARD.decode(base64).ok()?;
    let text = std::str::from_utf8(&pem).ok()?;
    // One block and no headers in it: the signer takes the first block that it finds.
    if !text.starts_with(BEGIN) || text.matches(BEGIN).count() != 1 || text.contains(':') {
        return None;
    }
    let (_, block) = parse_x509_pem(&pem)
        .ok()
        .filter(|(_, block)| block.label == LABEL)?;
    let (rest, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let request = &request.certification_request_info;
    let mut requested = Requested::default();
    subject(&request.subject, &mut requested)?;
    let mut asked = 0;
    for attribute in request.iter_attributes() {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(wanted) => {
                asked += 1;
                for extension in &wanted.extensions {
                    read_extension(extension, &mut requested);
                }
            }
            _ => requested.further.push(attribute.oid.to_id_string()),
        }
    }
    (asked <= 1).then_some(requested)
}

fn subject(subject: &X509Name<'_>, requested: &mut Requested) -> Option<()> {
    use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
    for attribute in subject.iter_attributes() {
        let value = || attribute.as_str().ok().map(str::to_owned);
        if *attribute.attr_type() == OID_X509_COMMON_NAME {
            requested.common_names.push(value()?);
        } else if *attribute.attr_type() == OID_X509_ORGANIZATION_NAME {
            requested.organizations.push(value()?);
        } else {
            requested.further.push(attribute.attr_type().to_id_string());
        }
    }
    Some(())
}

fn read_extension(extension: &X509Extension<'_>, requested: &mut Requested) {
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        requested.further.push(extension.oid.to_id_string());
        return;
    };
    for name in &names.general_names {
        match name {
            GeneralName::DNSName(host) => requested.hosts.push((*host).to_owned()),
            GeneralName::IPAddress(bytes) => match ip(bytes) {
                Some(ip) => requested.ips.push(ip),
                None => requested.further.push("an address of another length".to_owned()),
            },
            GeneralName::URI(_) => requested.further.push("a URI".to_owned()),
            GeneralName::RFC822Name(_) => requested.further.push("an e-mail address".to_owned()),
            _ => requested.further.push("a name of another kind".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};
    use virtual_kubelet_core::serving::ServingNames;

    use super::super::material::Key;
    use super::*;

    fn names() -> ServingNames {
        ServingNames {
            hosts: ["outrigger".to_owned()].into(),
            ips: ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()].into(),
        }
    }

    fn expected() -> Requested {
        Requested {
            organizations: vec!["system:nodes".to_owned()],
            common_names: vec!["system:node:outrigger".to_owned()],
            hosts: vec!["outrigger".to_owned()],
            ips: names().ips.into_iter().collect(),
            further: Vec::new(),
        }
    }

    fn of(params: &CertificateParams) -> Option<Requested> {
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        read(&STANDARD.encode(request.pem().unwrap()))
    }

    #[test]
    fn what_we_ask_for_is_read_as_such() {
        let pem = Key::generate().unwrap().request("outrigger", &names()).unwrap();
        assert_eq!(read(&STANDARD.encode(&pem)), Some(expected()));
        let twice = format!("{pem}{pem}");
        let with_header = pem.replacen("REQUEST-----\n", "REQUEST-----\nProc-Type: 4,ENCRYPTED\n\n", 1);
        assert_ne!(with_header, pem);
        let after_text = format!("see below\n{pem}");
        let other_label = pem.replace(LABEL, "NEW CERTIFICATE REQUEST");
        for odd in [twice, with_header, after_text, other_label, String::new()] {
            assert_ne!(read(&STANDARD.encode(&odd)), Some(expected()), "{odd}");
        }
        assert_eq!(read("not base64"), None);
        assert_eq!(read(&"A".repeat(LONGEST + 4)), None);
    }

    #[test]
    fn whatever_else_is_asked_for_is_named() {
        let plain = || {
            let mut params = CertificateParams::new(vec!["outrigger".to_owned()]).unwrap();
            params
                .distinguished_name
                .push(DnType::CommonName, "system:node:outrigger");
            params
        };
        let further = |change: fn(&mut CertificateParams)| {
            let mut params = plain();
            change(&mut params);
            of(&params).unwrap().further
        };
        assert_eq!(of(&plain()).unwrap().hosts, ["outrigger"]);
        assert_eq!(further(|_| {}), Vec::<String>::new());
        let authority = further(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert_eq!(authority, ["2.5.29.19"]);
        let usages = further(|params| {
            params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert_eq!(usages, ["2.5.29.15", "2.5.29.37"]);
        let uri = further(|params| {
            let uri = "spiffe://cluster/ns/x".try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        });
        assert_eq!(uri, ["a URI"]);
        let unit = further(|params| {
            params
                .distinguished_name
                .push(DnType::OrganizationalUnitName, "x");
        });
        assert_eq!(unit, ["2.5.4.11"]);
    }
}
