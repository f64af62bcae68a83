//! What every cloud must do. Panics at the first broken promise.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpuloom_fleet::InstanceId;

use crate::{Cloud, FailureClass, Instance, InstanceState, LaunchRequest, Tags, Token};

/// A cloud with nothing in it, and how to ask it for instances.
#[derive(Debug)]
pub struct Setup {
    /// Room for exactly three of `request`.
    pub cloud: Arc<dyn Cloud>,
    /// A request that the cloud can satisfy; each run replaces its token.
    pub request: LaunchRequest,
    /// The same for a fleet of another name.
    pub foreign: LaunchRequest,
}

/// Runs the whole contract; `make` gives a fresh setup each time.
///
/// # Panics
/// When the cloud breaks the contract; the message says where.
pub async fn run<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Setup>,
{
    one_token_is_one_instance(&make().await).await;
    finds_by_tags(&make().await).await;
    ends_and_verifies(&make().await).await;
    says_when_there_is_no_room(&make().await).await;
    start_leaves_the_running_alone(&make().await).await;
    launches_at_once_under_one_token_make_one(&make().await).await;
    says_what_it_offers_and_what_an_instance_is(&make().await).await;
    keeps_what_is_written_on_an_instance(&make().await).await;
    ends_everything_of_a_fleet_and_nothing_else(&make().await).await;
}

async fn launch(s: &Setup, token: &str) -> Instance {
    let request = with_token(&s.request, token);
    s.cloud
        .launch(&request)
        .await
        .expect("a launch with room for it")
        .instance
}

fn with_token(request: &LaunchRequest, token: &str) -> LaunchRequest {
    LaunchRequest {
        token: Token::new(token).expect("token"),
        ..request.clone()
    }
}

async fn ids(s: &Setup, tags: &Tags) -> Vec<InstanceId> {
    s.cloud
        .list(tags)
        .await
        .expect("list")
        .into_iter()
        .map(|i| i.id)
        .collect()
}

async fn sweep(s: &Setup) {
    for request in [&s.request, &s.foreign] {
        for id in ids(s, &Tags::of_fleet(&request.fleet)).await {
            s.cloud.terminate(&id).await.expect("terminate");
        }
    }
    assert!(ids(s, &Tags::default()).await.is_empty(), "nothing is left");
}

async fn one_token_is_one_instance(s: &Setup) {
    let first = launch(s, "t-1").await;
    let again = launch(s, "t-1").await;
    assert_eq!(first.id, again.id, "the same token is the same instance");
    let other = launch(s, "t-2").await;
    assert_ne!(first.id, other.id);
    assert_eq!(ids(s, &Tags::of_fleet(&s.request.fleet)).await.len(), 2);
    sweep(s).await;
}

async fn finds_by_tags(s: &Setup) {
    let mine = launch(s, "t-1").await;
    let foreign = s
        .cloud
        .launch(&with_token(&s.foreign, "t-2"))
        .await
        .expect("launch")
        .instance;
    let found = s
        .cloud
        .list(&Tags::of_fleet(&s.request.fleet))
        .await
        .expect("list");
    assert_eq!(found.len(), 1, "only the fleet's own");
    assert_eq!((&found[0].id, &found[0].token), (&mine.id, &mine.token));
    assert!(s.request.offerings.contains(&found[0].offering));
    for (key, value) in &with_token(&s.request, "t-1").tags().0 {
        assert_eq!(
            found[0].tags.get(key),
            Some(value.as_str()),
            "every tag is kept"
        );
    }
    let all: BTreeSet<_> = ids(s, &Tags::default()).await.into_iter().collect();
    assert_eq!(
        all,
        BTreeSet::from([mine.id, foreign.id]),
        "no tags: everything"
    );
    sweep(s).await;
}

async fn ends_and_verifies(s: &Setup) {
    let a = launch(s, "t-1").await;
    let b = launch(s, "t-2").await;
    s.cloud.terminate(&a.id).await.expect("terminate");
    assert_eq!(
        ids(s, &Tags::default()).await,
        [b.id],
        "what was ended is not listed"
    );
    s.cloud
        .terminate(&a.id)
        .await
        .expect("ending what is gone succeeds");
    let never = InstanceId::new("never-was-there").expect("id");
    s.cloud
        .terminate(&never)
        .await
        .expect("ending what never was succeeds");
    assert_eq!(
        s.cloud.read_attribute(&a.id, "ca-pin").await.expect("read"),
        None
    );
    let started = s
        .cloud
        .start(&a.id)
        .await
        .expect_err("what is gone cannot be started");
    assert_eq!(started.class, FailureClass::Invalid);
    sweep(s).await;
}

async fn says_when_there_is_no_room(s: &Setup) {
    for token in ["t-1", "t-2", "t-3"] {
        launch(s, token).await;
    }
    let refused = s
        .cloud
        .launch(&with_token(&s.request, "t-4"))
        .await
        .expect_err("a fourth");
    assert_eq!(refused.class, FailureClass::Capacity, "{refused}");
    let there = ids(s, &Tags::default()).await;
    assert_eq!(there.len(), 3, "a refusal leaves nothing");
    launch(s, "t-3").await;
    s.cloud.terminate(&there[0]).await.expect("terminate");
    launch(s, "t-5").await;
    sweep(s).await;
}

async fn start_leaves_the_running_alone(s: &Setup) {
    let a = launch(s, "t-1").await;
    let same = s.cloud.start(&a.id).await.expect("start");
    assert_eq!(same.id, a.id);
    assert_ne!(same.state, InstanceState::Stopped);
    assert_eq!(ids(s, &Tags::default()).await, [a.id]);
    sweep(s).await;
}

async fn launches_at_once_under_one_token_make_one(s: &Setup) {
    let (a, b, c) = (
        with_token(&s.request, "t-1"),
        with_token(&s.request, "t-1"),
        with_token(&s.request, "t-2"),
    );
    let (a, b, c) = futures_join3(s.cloud.launch(&a), s.cloud.launch(&b), s.cloud.launch(&c)).await;
    let [a, b, c] = [a, b, c].map(|l| l.expect("launch").instance);
    assert_eq!(a.id, b.id);
    assert_ne!(a.id, c.id);
    assert_eq!(ids(s, &Tags::default()).await.len(), 2);
    sweep(s).await;
}

/// Polls three futures side by side.
async fn futures_join3<A, B, C>(
    a: impl Future<Output = A>,
    b: impl Future<Output = B>,
    c: impl Future<Output = C>,
) -> (A, B, C) {
    let (mut a, mut b, mut c) = (Box::pin(a), Box::pin(b), Box::pin(c));
    let (mut x, mut y, mut z) = (None, None, None);
    std::future::poll_fn(|cx| {
        fn poll<F: Future>(
            f: &mut std::pin::Pin<Box<F>>,
            out: &mut Option<F::Output>,
            cx: &mut std::task::Context<'_>,
        ) {
            if out.is_none()
                && let std::task::Poll::Ready(v) = f.as_mut().poll(cx)
            {
                *out = Some(v);
            }
        }
        poll(&mut a, &mut x, cx);
        poll(&mut b, &mut y, cx);
        poll(&mut c, &mut z, cx);
        match (x.take(), y.take(), z.take()) {
            (Some(x), Some(y), Some(z)) => std::task::Poll::Ready((x, y, z)),
            (p, q, r) => {
                (x, y, z) = (p, q, r);
                std::task::Poll::Pending
            }
        }
    })
    .await
}

/// What is asked for is offered, and an instance says what it was launched as.
async fn says_what_it_offers_and_what_an_instance_is(s: &Setup) {
    let request = with_token(&s.request, "t-1");
    let offered = s.cloud.offerings(&request.place, request.gpu.as_ref());
    let offered = offered.await.expect("offerings");
    let first = request.offering().expect("a request asks for something");
    assert!(
        request.gpu.is_none() || offered.iter().any(|o| o.offering == *first),
        "{first} is asked for and not among {offered:?}"
    );
    let launched = s.cloud.launch(&request).await.expect("launch").instance;
    assert!(request.offerings.contains(&launched.offering));
    assert_eq!(
        (&launched.pool, launched.role),
        (&request.pool, request.role)
    );
    let listed = s.cloud.list(&request.tags()).await.expect("list");
    assert_eq!(listed.len(), 1, "an instance is found by all of its tags");
    let found = &listed[0];
    assert_eq!((&found.pool, found.role), (&request.pool, request.role));
    assert_eq!(found.offering, launched.offering);
    sweep(s).await;
}

/// Attributes are the instance's own and change nothing by which it is found.
async fn keeps_what_is_written_on_an_instance(s: &Setup) {
    let a = launch(s, "t-1").await;
    let b = launch(s, "t-2").await;
    let pin = format!("sha256:{}", "0123456789abcdef".repeat(4));
    for (key, value) in [
        ("ca-pin", "sha256:old"),
        ("ca-pin", &pin),
        ("fleet-id", "00ff"),
    ] {
        let written = s.cloud.write_attribute(&a.id, key, value).await;
        written.expect("written");
    }
    let read = async |id, key| s.cloud.read_attribute(id, key).await.expect("read");
    assert_eq!(
        read(&a.id, "ca-pin").await,
        Some(pin),
        "the last one stands"
    );
    assert_eq!(read(&a.id, "fleet-id").await.as_deref(), Some("00ff"));
    assert_eq!(read(&b.id, "fleet-id").await, None);
    let tags = with_token(&s.request, "t-1").tags();
    assert_eq!(ids(s, &tags).await, [a.id], "its tags are as they were");
    let never = InstanceId::new("never-was-there").expect("id");
    let refused = s.cloud.write_attribute(&never, "ca-pin", "x").await;
    let refused = refused.expect_err("there is no such instance");
    assert_eq!(refused.class, FailureClass::Invalid, "{refused}");
    sweep(s).await;
}

async fn ends_everything_of_a_fleet_and_nothing_else(s: &Setup) {
    launch(s, "t-1").await;
    launch(s, "t-2").await;
    let foreign = s.cloud.launch(&with_token(&s.foreign, "t-3")).await;
    let foreign = foreign.expect("launch").instance;
    let deadline = Instant::now() + Duration::from_secs(120);
    let tags = Tags::of_fleet(&s.request.fleet);
    let ended = s.cloud.terminate_all(&tags, deadline).await;
    ended.expect("all of them end");
    assert_eq!(ids(s, &Tags::default()).await, [foreign.id]);
    sweep(s).await;
}
