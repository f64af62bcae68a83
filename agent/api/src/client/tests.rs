//! Real TLS over loopback, against a small lead and node.

mod server;

use super::*;
use crate::proto;
use crate::tls::{Ca, KeyAndCertificate, SecretKey};
use crate::{Admittance, BearerToken, NodeLogClient, RefusalCode, join};
use gpuloom_fleet::{Kind, NodeId, TenantName};
use server::{Fixture, started};
use std::time::Duration;
use tokio_stream::StreamExt;

fn node_id() -> NodeId {
    NodeId::new("t4-0a1b2c3d").expect("an id")
}

fn code(error: &CallError) -> Option<RefusalCode> {
    error.refusal().map(|r| r.code)
}

impl Fixture {
    async fn connect(&self, credential: Credential) -> Result<Client, CallError> {
        Client::connect(self.endpoints(), self.ca.pin(), credential).await
    }

    fn node_certificate(&self) -> KeyAndCertificate {
        let key = SecretKey::generate().expect("a key");
        let request = key.signing_request().expect("a request");
        let now = std::time::SystemTime::now();
        let signed = self.ca.sign_node(&request, &node_id(), now);
        KeyAndCertificate {
            key,
            certificate: signed.expect("signed"),
            ca: self.ca.certificate().clone(),
        }
    }
}

#[tokio::test]
async fn each_credential_is_taken_for_who_it_is() {
    let fleet = started().await;
    let token = Credential::Token(fleet.token.clone());
    let node = Credential::Certificate(fleet.node_certificate());
    for (credential, caller) in [
        (Credential::Admin(fleet.admin.clone()), "admin"),
        (node, "node:t4-0a1b2c3d"),
        (token, "tenant:research"),
        (Credential::Anonymous, "anonymous"),
    ] {
        let client = fleet.connect(credential).await.expect(caller);
        assert_eq!(client.hello().caller, caller);
        assert_eq!(client.hello().protocol, PROTOCOL_MAX);
    }
}

#[tokio::test]
async fn a_foreign_admin_key_is_told_so_every_time() {
    let fleet = started().await;
    for _ in 0..10 {
        let foreign = SecretKey::generate().expect("a key");
        let refused = fleet.connect(Credential::Admin(foreign)).await;
        let error = refused.expect_err("a foreign key");
        assert_eq!(code(&error), Some(RefusalCode::Denied), "{error:?}");
        assert!(error.to_string().contains("admin_public_key"), "{error}");
    }
}

#[tokio::test]
async fn a_node_of_another_fleet_is_refused() {
    let (ours, theirs) = (started().await, started().await);
    let foreign = Credential::Certificate(theirs.node_certificate());
    let error = ours.connect(foreign).await.expect_err("a foreign node");
    assert_eq!(code(&error), Some(RefusalCode::Denied), "{error:?}");
}

#[tokio::test]
async fn a_foreign_ca_is_refused_by_its_pin_before_anything_is_sent() {
    let (ours, theirs) = (started().await, started().await);
    let token = Credential::Token(ours.token.clone());
    let connected = Client::connect(theirs.endpoints(), ours.ca.pin(), token).await;
    let error = connected.expect_err("another CA");
    assert!(matches!(error, CallError::WrongCa { .. }), "{error:?}");
    let message = error.to_string();
    let expected = format!("the server's CA does not match the pin {}", ours.ca.pin());
    assert!(message.contains(&expected), "{message}");
    assert!(message.contains(&theirs.ca.pin().to_string()), "{message}");
}

#[tokio::test]
async fn a_node_cannot_pass_for_the_lead() {
    let fleet = started().await;
    let node = server::serve_with(fleet.node_certificate()).await;
    let connected = Client::connect(node, fleet.ca.pin(), Credential::Anonymous).await;
    let error = connected.expect_err("not the lead");
    assert!(matches!(error, CallError::WrongCa { .. }), "{error:?}");
}

#[tokio::test]
async fn a_token_reaches_its_own_tenant_alone() {
    let fleet = started().await;
    let client = fleet.connect(Credential::Token(fleet.token.clone())).await;
    let client = client.expect("connects");
    let filter = |tenant: &str| proto::ListJobsRequest {
        tenant: tenant.to_owned(),
        ..Default::default()
    };
    assert!(client.jobs(filter("research")).await.is_ok());
    let error = client.jobs(filter("serving")).await.expect_err("another's");
    assert!(error.to_string().contains("the token is tenant research's"));
    let error = client.get_object(Kind::Pool, "t4", false).await;
    assert_eq!(
        code(&error.expect_err("admin only")),
        Some(RefusalCode::Denied)
    );
    let unknown = BearerToken::new_submit().expect("random");
    let error = fleet.connect(Credential::Token(unknown)).await;
    let error = error.expect_err("an unknown token");
    assert!(
        error.to_string().contains("unknown, revoked or expired"),
        "{error}"
    );
}

#[tokio::test]
async fn protocols_that_do_not_overlap_are_named_on_both_sides() {
    let fleet = started().await;
    let client = fleet.connect(Credential::Admin(fleet.admin.clone())).await;
    let mut client = client.expect("connects");
    client.headers.claim_protocol(99);
    let error = client.top().await.expect_err("another protocol");
    assert_eq!(code(&error), Some(RefusalCode::Version));
    assert!(
        error
            .to_string()
            .contains("the server speaks protocol 1, the caller protocol 99")
    );
    assert_eq!(crate::negotiate(1, 9), Ok(1));
    assert!(crate::negotiate(2, 9).is_err());
    assert!(crate::negotiate(0, 0).is_err());
}

#[tokio::test]
async fn a_refusal_arrives_whole_even_at_its_largest() {
    let fleet = started().await;
    let client = fleet.connect(Credential::Admin(fleet.admin.clone())).await;
    let client = client.expect("connects");
    let error = client.get_object(Kind::Quota, "refused", false).await;
    let error = error.expect_err("refused");
    assert_eq!(error.refusal(), Some(&server::largest_refusal()));
    let gone = client.get_object(Kind::Quota, "missing", false).await;
    assert_eq!(gone, Ok(None));
}

#[tokio::test]
async fn a_client_goes_on_with_the_next_endpoint_when_its_own_stops() {
    let fleet = started().await;
    let second = fleet.another_server().await;
    let both = Endpoints::new([fleet.address.to_string(), second.to_string()]);
    let admin = Credential::Admin(fleet.admin.clone());
    let client = Client::connect(both.expect("two"), fleet.ca.pin(), admin).await;
    let client = client.expect("connects");
    assert_eq!(
        client.top().await.expect("answers").fleet,
        fleet.address.to_string()
    );
    fleet.stop().await;
    assert_eq!(
        client.top().await.expect("answers").fleet,
        second.to_string()
    );
}

#[tokio::test]
async fn what_cannot_be_reached_says_what_was_tried() {
    let fleet = started().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("binds");
    let closed = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let deaf = deaf.expect("binds");
    let silent = deaf.local_addr().expect("bound").to_string();
    let short = Timeouts {
        connect: Duration::from_millis(200),
        call: Duration::from_secs(5),
    };
    let endpoints = Endpoints::new([closed.clone(), silent.clone()]).expect("two");
    let connected =
        Client::connect_within(endpoints, fleet.ca.pin(), Credential::Anonymous, short).await;
    let error = connected.expect_err("nobody answers");
    let CallError::Unreachable { tried } = &error else {
        panic!("{error:?}");
    };
    assert!(
        tried.contains(&closed) && tried.contains("refused"),
        "{tried}"
    );
    assert!(
        tried.contains(&silent) && tried.contains("200ms"),
        "{tried}"
    );
    assert!(error.nothing_was_done() && error.is_transient());
}

#[tokio::test]
async fn what_does_not_speak_tls_is_said_to() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fleet = started().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("binds");
    let endpoints = Endpoints::new([listener.local_addr().expect("bound").to_string()]);
    let web = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("writes");
        let mut sink = vec![0; 4096];
        while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    });
    let connected = Client::connect(
        endpoints.expect("one"),
        fleet.ca.pin(),
        Credential::Anonymous,
    )
    .await;
    let message = connected.expect_err("no TLS").to_string();
    assert!(message.contains("does not speak TLS"), "{message}");
    web.await.expect("ends when the client leaves");
}

#[tokio::test]
async fn a_node_joins_and_opens_its_session() {
    let fleet = started().await;
    let pin = fleet.ca.pin();
    let token = Admittance::Token(BearerToken::new_join().expect("random"));
    let key = SecretKey::generate().expect("a key");
    let joined = join(fleet.endpoints(), pin, &token, &node_id(), key).await;
    let joined = joined.expect("joins");
    let node = fleet
        .connect(Credential::Certificate(joined.identity))
        .await;
    let node = node.expect("connects");
    assert_eq!(node.hello().caller, "node:t4-0a1b2c3d");
    let reports = tokio_stream::iter([7, 8]).map(|seq| proto::NodeReport {
        seq,
        ..Default::default()
    });
    let mut orders = node.session(reports).await.expect("opens");
    for seq in [7, 8] {
        let order = orders.next().await.expect("reads").expect("an order");
        assert_eq!(order.seq, seq);
    }
    assert_eq!(orders.next().await, Ok(None));
    let admin = fleet.connect(Credential::Admin(fleet.admin.clone())).await;
    let refused = admin
        .expect("connects")
        .session(tokio_stream::empty())
        .await;
    let error = refused.expect_err("nodes only");
    assert_eq!(code(&error), Some(RefusalCode::Denied));
}

#[tokio::test]
async fn the_lead_reads_logs_of_the_node_it_means_and_no_other() {
    let fleet = started().await;
    let node = server::serve_with(fleet.node_certificate()).await;
    let lead = fleet
        .ca
        .issue_lead(std::time::SystemTime::now())
        .expect("issued");
    let pin = fleet.ca.pin();
    let client = NodeLogClient::connect(node.clone(), pin, lead.clone(), node_id()).await;
    let client = client.expect("connects");
    let mut log = client.read_log(proto::ReadNodeLogRequest::default()).await;
    let chunk = log.as_mut().expect("reads").next().await.expect("reads");
    assert_eq!(chunk.expect("a chunk").data, b"hello\n");
    let other = NodeId::new("t4-ffffffff").expect("an id");
    let error = NodeLogClient::connect(node, pin, lead, other).await;
    let error = error.expect_err("another node");
    assert!(matches!(error, CallError::WrongCa { .. }), "{error:?}");
}

#[tokio::test]
async fn a_handshake_that_says_nothing_does_not_hold_up_others() {
    let fleet = started().await;
    let mute = tokio::net::TcpStream::connect(fleet.address).await;
    let client = fleet.connect(Credential::Anonymous).await;
    assert!(client.is_ok() && mute.is_ok());
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_before_it_is_sent() {
    let fleet = started().await;
    let client = fleet.connect(Credential::Admin(fleet.admin.clone())).await;
    let client = client.expect("connects");
    let request = proto::ListJobsRequest {
        number: "9".repeat(MAX_REQUEST_BYTES + 1),
        ..Default::default()
    };
    let error = client.jobs(request).await.expect_err("too large");
    assert_eq!(
        error.to_string(),
        "a request is limited to 8MiB; make the request smaller"
    );
    let tenant = TenantName::new("research").expect("a name");
    let usage = client.usage(Some(&tenant)).await.expect_err("no such call");
    assert_eq!(code(&usage), Some(RefusalCode::Version));
}

#[test]
fn a_ca_of_its_own_for_every_fleet() {
    let name = gpuloom_fleet::FleetName::new("ml").expect("a name");
    let now = std::time::SystemTime::now();
    let (a, b) = (Ca::create(&name, now), Ca::create(&name, now));
    assert_ne!(a.expect("made").pin(), b.expect("made").pin());
}
