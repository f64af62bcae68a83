//! A server on this machine that answers each path as told, and remembers what was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is answered to a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status and body.
    Whole(u16, String),
    /// The beginning of a body that was announced as longer, then the end of the connection.
    Broken(String),
    /// Nothing, for ever.
    Silence,
    /// Send the client elsewhere.
    Redirect(String),
}

type Rule = Box<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// Ends with the test.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) base: String,
    heads: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Server ===

impl Server {
    /// Answers what `rule` says of a request's target (path and query); 404 where it says nothing. `{base}` in
    /// a body becomes the server's own address.
    pub(crate) async fn start(
        rule: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let rule: Arc<Rule> = Arc::new(Box::new(rule));
        let (own, seen) = (base.clone(), Arc::clone(&heads));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (rule, own, seen) = (Arc::clone(&rule), own.clone(), Arc::clone(&seen));
                tokio::spawn(async move { serve(stream, &rule, &own, &seen).await });
            }
        });
        Self { base, heads, task }
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("not poisoned").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, rule: &Rule, base: &str, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
    seen.lock().expect("not poisoned").push(head);
    let text = match rule(&target) {
        None => answer(404, 0, ""),
        Some(Answer::Whole(status, body)) => {
            let body = body.replace("{base}", base);
            answer(status, body.len(), &body)
        }
        Some(Answer::Broken(body)) => answer(200, body.len() + 100, &body),
        Some(Answer::Redirect(to)) => format!(
            "HTTP/1.1 302 x\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ),
        Some(Answer::Silence) => {
            // Until the client gives up.
            let _ = stream.read_u8().await;
            return;
        }
    };
    // A client that has seen enough hangs up.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn answer(status: u16, length: usize, body: &str) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}
