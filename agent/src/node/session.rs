//! The session with the lead: reports out, orders in, again and again.

use super::config::NodeConfig;
use super::core::Inbox;
use super::error::NodeError;
use gpuloom_api::proto::{NodeOrders, NodeReport};
use gpuloom_api::tls::{Credential, KeyAndCertificate};
use gpuloom_api::{CallError, Client, Updates};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;

/// A report is sent at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// And at most this often: what changes in between is told together.
const SPACING: Duration = Duration::from_millis(20);
/// Reports on their way; a lead that takes none is not buried.
const IN_FLIGHT: usize = 2;
/// Shortest and longest wait before the lead is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Waits that double up to a limit.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

// === impl Backoff ===

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF.0)
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(BACKOFF.1);
        now
    }

    pub(crate) async fn wait(&mut self) {
        sleep(self.next()).await;
    }
}

/// Keeps a session with the lead for ever. Returns only when the core has ended.
pub(crate) async fn run(
    config: &NodeConfig,
    identity: watch::Receiver<KeyAndCertificate>,
    reports: watch::Receiver<Arc<NodeReport>>,
    core: mpsc::Sender<Inbox>,
) -> Result<(), NodeError> {
    let endpoints = config.endpoints()?;
    let pin = config.pin()?;
    let mut backoff = Backoff::default();
    loop {
        let credential = Credential::Certificate(identity.borrow().clone());
        let held = match Client::connect(endpoints.clone(), pin, credential).await {
            Ok(client) => hold(&client, reports.clone(), &core, &mut backoff).await,
            Err(error) => Err(error),
        };
        if core.is_closed() {
            return Err(NodeError::CoreEnded);
        }
        match held {
            Ok(()) => tracing::info!("the lead ended the session"),
            Err(error) => tracing::warn!(%error, "no session with the lead"),
        }
        backoff.wait().await;
    }
}

async fn hold(
    client: &Client,
    reports: watch::Receiver<Arc<NodeReport>>,
    core: &mpsc::Sender<Inbox>,
    backoff: &mut Backoff,
) -> Result<(), CallError> {
    let (send, receive) = mpsc::channel(IN_FLIGHT);
    let sending = send_reports(reports, send);
    let receiving = async {
        let mut orders = client.session(ReceiverStream::new(receive)).await?;
        tracing::info!("in session with the lead");
        take_orders(&mut orders, core, backoff).await
    };
    tokio::select! {
        () = sending => Ok(()),
        ended = receiving => ended,
    }
}

async fn take_orders(
    orders: &mut Updates<NodeOrders>,
    core: &mpsc::Sender<Inbox>,
    backoff: &mut Backoff,
) -> Result<(), CallError> {
    while let Some(next) = orders.next().await? {
        *backoff = Backoff::default();
        if core.send(Inbox::Orders(next)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends the newest report when it changed, and each [`HEARTBEAT`]; ends with either channel.
async fn send_reports(
    mut reports: watch::Receiver<Arc<NodeReport>>,
    send: mpsc::Sender<NodeReport>,
) {
    let mut seq = 0;
    loop {
        seq += 1;
        let newest = reports.borrow_and_update().clone();
        let report = NodeReport {
            seq,
            ..(*newest).clone()
        };
        let sent = Instant::now();
        if send.send(report).await.is_err() {
            return;
        }
        match timeout(HEARTBEAT, reports.changed()).await {
            Ok(Ok(())) => sleep(SPACING.saturating_sub(sent.elapsed())).await,
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_two_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..7).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[tokio::test]
    async fn a_report_goes_out_on_change_and_else_each_heartbeat() {
        let report = |version: &str| {
            Arc::new(NodeReport {
                agent_version: version.to_owned(),
                ..NodeReport::default()
            })
        };
        let (change, reports) = watch::channel(report("a"));
        let (send, mut sent) = mpsc::channel(1);
        let sending = tokio::spawn(send_reports(reports, send));
        let first = sent.recv().await.expect("is sent");
        assert_eq!((first.seq, first.agent_version.as_str()), (1, "a"));
        change.send(report("b")).expect("is received");
        let second = sent.recv().await.expect("is sent");
        assert_eq!((second.seq, second.agent_version.as_str()), (2, "b"));
        // Nothing changes: only the heartbeat can bring another.
        let began = Instant::now();
        let third = sent.recv().await.expect("is sent");
        assert_eq!((third.seq, third.agent_version.as_str()), (3, "b"));
        assert!(began.elapsed() >= HEARTBEAT / 2, "{:?}", began.elapsed());
        drop(change);
        sending.await.expect("ends");
    }
}
