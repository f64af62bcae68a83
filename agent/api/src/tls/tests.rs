use super::*;
use gpuloom_fleet::{FleetName, NodeId};
use std::time::{Duration, SystemTime};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ca() -> Ca {
    Ca::create(&FleetName::new("ml").expect("a name"), now()).expect("a CA")
}

#[test]
fn a_ca_reads_back_with_the_same_pin_and_refuses_anothers_key() {
    let (ours, other) = (ca(), ca());
    let read = Ca::from_pem(&ours.certificate_pem(), &ours.key_pem()).expect("reads");
    assert_eq!(read.pin(), ours.pin());
    assert_eq!(
        ours.pin().to_string().parse::<CaPin>().ok(),
        Some(ours.pin())
    );
    assert_ne!(ours.pin(), other.pin());
    let mixed = Ca::from_pem(&ours.certificate_pem(), &other.key_pem());
    let message = mixed.expect_err("they do not belong together").to_string();
    assert!(message.contains("do not belong together"), "{message}");
}

#[test]
fn a_node_gets_the_name_the_lead_gives_it_whatever_it_asks_for() {
    let ca = ca();
    let key = SecretKey::generate().expect("a key");
    let mut wish = rcgen::CertificateParams::default();
    wish.subject_alt_names = vec![rcgen::SanType::URI(LEAD_URI.try_into().expect("ascii"))];
    let request = wish.serialize_request(key.0.as_ref()).expect("a request");
    let node = NodeId::new("t4-0a1b2c3d").expect("an id");
    let certificate = ca.sign_node(request.der(), &node, now()).expect("signed");
    let (public, uris) = read_certificate(&certificate).expect("reads");
    assert_eq!(public, key.public_key());
    assert_eq!(uris, ["gpuloom://node/t4-0a1b2c3d"]);
}

#[test]
fn two_requests_of_one_key_differ_and_their_certificates_are_of_that_key() {
    let (ca, key) = (ca(), SecretKey::generate().expect("a key"));
    let node = NodeId::new("t4-0a1b2c3d").expect("an id");
    let [first, second] = [(); 2].map(|()| key.signing_request().expect("a request"));
    assert_ne!(first, second, "ECDSA signs with a random number");
    for request in [first, second] {
        let certificate = ca.sign_node(&request, &node, now()).expect("signed");
        let of = PublicKey::of_certificate(&certificate).expect("reads");
        assert_eq!(of, key.public_key());
    }
    assert!(PublicKey::of_certificate(&b"no certificate".as_slice().into()).is_err());
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let key = SecretKey::generate().expect("a key");
    let mut request = key.signing_request().expect("a request");
    let node = NodeId::new("n").expect("an id");
    assert!(ca().sign_node(&request, &node, now()).is_ok());
    let last = request.len() - 1;
    request[last] ^= 1;
    assert!(ca().sign_node(&request, &node, now()).is_err());
    assert!(ca().sign_node(b"no request", &node, now()).is_err());
}

#[test]
fn keys_read_back_and_never_show_their_private_half() {
    let key = SecretKey::generate().expect("a key");
    let read = SecretKey::from_pem(&key.to_pem()).expect("reads");
    assert_eq!(read.public_key(), key.public_key());
    let text = key.public_key().to_string();
    assert_eq!(text.len(), 124);
    assert_eq!(text.parse::<PublicKey>().ok(), Some(key.public_key()));
    let debug = format!("{key:?}");
    assert!(
        !debug.contains("PRIVATE") && debug.contains(&text),
        "{debug}"
    );
}

#[test]
fn an_identity_reads_back_from_its_three_files() {
    let own = ca().issue_lead(now()).expect("issued");
    let (key, certificate, authority) = (own.key.to_pem(), own.certificate_pem(), own.ca_pem());
    let read = KeyAndCertificate::from_pem(&key, &certificate, &authority).expect("reads");
    assert_eq!((read.certificate, read.ca), (own.certificate, own.ca));
    let damaged = KeyAndCertificate::from_pem(&key, "cut off", &authority);
    let message = damaged.expect_err("no certificate").to_string();
    assert!(
        message.starts_with("the certificate does not read"),
        "{message}"
    );
}

#[test]
fn what_does_not_read_says_what_would() {
    for (text, expected) in [
        ("", "64 hexadecimal digits"),
        ("sha256:12", "64 hexadecimal digits"),
        ("sha1:0000", "64 hexadecimal digits"),
    ] {
        let e = text.parse::<CaPin>().expect_err(text).to_string();
        assert!(e.contains(expected), "{e}");
    }
    for text in ["", "AAAA", "not base64!"] {
        let e = text.parse::<PublicKey>().expect_err(text).to_string();
        assert!(e.contains("gpuloom keygen"), "{e}");
    }
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let e = SecretKey::from_pem(rsa)
        .expect_err("not PKCS#8")
        .to_string();
    assert!(e.contains("P-256") && e.contains("gpuloom keygen"), "{e}");
}

#[test]
fn certificates_are_valid_from_a_day_before_for_ten_years() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let lead = ca().issue_lead(now()).expect("issued");
    let (_, certificate) = X509Certificate::from_der(&lead.certificate).expect("reads");
    let validity = certificate.validity();
    assert_eq!(validity.not_before.timestamp(), 1_800_000_000 - 86_400);
    assert_eq!(
        validity.not_after.timestamp(),
        1_800_000_000 + 10 * 365 * 86_400
    );
}
