//! A lead with just enough behind its door to drive the provider: `standin agent --config FILE`.
//!
//! It keeps its CA and objects in its data directory as the real one does, takes its lock, says where it answers, and
//! counts GPUs instead of launching nodes. The real lead's behaviour is checked where the real lead runs.

mod objects;
mod service;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use gpuloom_api::ServerConfig;
use gpuloom_api::tls::Ca;
use gpuloom_fleet::{FleetName, parse_layout};
use tokio::net::TcpListener;
use tonic::service::Routes;

use objects::Objects;
use service::Lead;

#[tokio::main]
async fn main() {
    let config = std::env::args().nth(3).expect("agent --config FILE");
    let text = std::fs::read_to_string(&config).expect("the configuration");
    let settings: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .filter_map(|(key, value)| Some((key.to_owned(), serde_json::from_str(value).ok()?)))
        .collect();
    let data_dir = PathBuf::from(&settings["data_dir"]);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(data_dir.join("lock"))
        .expect("the lock");
    lock.try_lock().expect("nobody else runs");
    std::fs::write(
        data_dir.join("lock"),
        format!("{} {}", std::process::id(), start_time()),
    )
    .expect("written");
    match settings.get("admin_public_key") {
        Some(key) => lead(&settings, key, &data_dir).await,
        // A node: it only exists.
        None => std::future::pending().await,
    }
}

/// Field 22 of /proc/self/stat.
fn start_time() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit_once(") ").expect("a name in brackets").1;
    after.split(' ').nth(19).expect("the start time").to_owned()
}

async fn lead(settings: &BTreeMap<String, String>, key: &str, data_dir: &Path) {
    let name = FleetName::new(settings["name"].as_str()).expect("a name");
    let (cert, private) = (data_dir.join("ca.pem"), data_dir.join("ca.key"));
    let now = SystemTime::now();
    let ca = match std::fs::read_to_string(&cert) {
        Ok(cert) => Ca::from_pem(&cert, &std::fs::read_to_string(&private).expect("its key"))
            .expect("our own CA"),
        Err(_) => {
            let ca = Ca::create(&name, now).expect("a CA");
            std::fs::write(private, ca.key_pem()).expect("written");
            std::fs::write(cert, ca.certificate_pem()).expect("written");
            ca
        }
    };
    let pin = ca.pin().to_string();
    let fleet_id = format!("id-{}", &pin[7..19]);
    let listener = TcpListener::bind(&settings["listen"])
        .await
        .expect("the address is free");
    let endpoint = listener.local_addr().expect("bound").to_string();
    for (key, value) in [
        ("fleet-id", &fleet_id),
        ("ca-pin", &pin),
        ("endpoint", &endpoint),
        ("metrics-endpoint", &endpoint),
    ] {
        // Whole or not at all: the driver may look at any moment.
        let (new, path) = (
            data_dir.join("attribute.new"),
            data_dir.join("attributes").join(key),
        );
        std::fs::write(&new, value).expect("written");
        std::fs::rename(new, path).expect("shown");
    }
    let gpus = settings.get("simulate").map_or(0, |s| {
        parse_layout(s)
            .expect("a layout")
            .iter()
            .map(|p| p.count)
            .sum()
    });
    let objects = Objects::open(data_dir.join("objects.json"), gpus);
    let lead = Lead {
        objects: Arc::new(Mutex::new(objects)),
        fleet_id,
        name: name.to_string(),
    };
    let own = ca.issue_lead(now).expect("issued");
    let config = ServerConfig::new(own).admin(key.parse().expect("a public key"));
    let routes = Routes::new(gpuloom_api::fleet_server(lead));
    gpuloom_api::serve(listener, config, routes, std::future::pending())
        .await
        .expect("it serves");
}
