//! From the first connection to the end.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tfplug::proto::go_plugin::grpc_broker_client::GrpcBrokerClient;
use tfplug::proto::go_plugin::grpc_controller_client::GrpcControllerClient;
use tfplug::proto::go_plugin::grpc_stdio_client::GrpcStdioClient;
use tfplug::proto::go_plugin::{ConnInfo, Empty};
use tfplug::proto::health::HealthCheckRequest;
use tfplug::proto::health::health_client::HealthClient;
use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_client::ProviderClient;
use tfplug::{Type, Value};
use tokio_stream::StreamExt as _;

use crate::client::Plugin;

#[tokio::test]
async fn it_survives_interrupts_and_ends_at_once_when_told_to() {
    let mut plugin = Plugin::start(None).await;
    let channel = plugin.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let ping = HealthCheckRequest {
        service: "plugin".to_owned(),
    };
    assert_eq!(
        health
            .check(ping.clone())
            .await
            .expect("an answer")
            .into_inner()
            .status,
        1
    );
    let pid = plugin
        .child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).expect("a pid")))
        .expect("runs");
    kill_process(pid, Signal::INT).expect("its parent may");
    assert_eq!(
        health
            .check(ping)
            .await
            .expect("still there")
            .into_inner()
            .status,
        1
    );

    let mut stdio = GrpcStdioClient::new(channel.clone());
    let mut silence = stdio
        .stream_stdio(())
        .await
        .expect("stays open")
        .into_inner();
    let mut broker = GrpcBrokerClient::new(channel.clone());
    let mut calls = broker
        .start_stream(tokio_stream::pending::<ConnInfo>())
        .await
        .expect("stays open")
        .into_inner();

    let socket = plugin.socket();
    assert!(socket.exists());
    GrpcControllerClient::new(channel)
        .shutdown(Empty {})
        .await
        .expect("an answer");
    let asked = Instant::now();
    let (rest, code) = plugin.end().await;
    // 50 ms on a quiet machine; Terraform kills after 2 s.
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "took {:?}",
        asked.elapsed()
    );
    assert_eq!((rest.as_str(), code), ("", Some(0)));
    assert!(!socket.parent().expect("a directory").exists());
    assert!(
        !matches!(silence.next().await, Some(Ok(_))) && !matches!(calls.next().await, Some(Ok(_)))
    );
}

#[tokio::test]
async fn requests_beyond_the_usual_limit_are_taken() {
    let plugin = Plugin::start(None).await;
    let mut client =
        ProviderClient::new(plugin.channel().await).max_encoding_message_size(usize::MAX);
    let ty = Type::object([
        ("name", Type::String),
        ("size", Type::Number),
        ("labels", Type::map(Type::String)),
    ]);
    let config = Value::object([
        ("name", Value::from("x".repeat(6 << 20))),
        ("size", Value::Null),
        ("labels", Value::Null),
    ]);
    let msgpack = config.to_msgpack(&ty).expect("fits");
    let config = Some(pb::DynamicValue {
        msgpack,
        json: Vec::new(),
    });
    let request = pb::validate_data_resource_config::Request {
        type_name: "demo_server".to_owned(),
        config,
    };
    let answer = client
        .validate_data_resource_config(request)
        .await
        .expect("taken")
        .into_inner();
    assert_eq!(answer.diagnostics, vec![]);
}

#[tokio::test]
async fn it_does_not_outlive_a_terraform_that_was_killed() {
    let mut plugin = Plugin::start(None).await;
    let channel = plugin.channel().await;
    let ping = HealthCheckRequest {
        service: String::new(),
    };
    HealthClient::new(channel.clone())
        .check(ping)
        .await
        .expect("an answer");
    drop(channel);
    let (_, code) = plugin.end().await;
    assert_eq!(code, Some(0));
    assert!(!plugin.socket().exists());
}

#[tokio::test]
async fn a_killed_plugins_socket_is_removed_by_the_next() {
    let mut first = Plugin::start(None).await;
    first.child.kill().await.expect("killed");
    let left = first.socket();
    assert!(left.exists());
    let mut command = crate::client::command(first.base.path());
    command
        .env(tfplug::COOKIE_KEY, tfplug::COOKIE_VALUE)
        .env("PLUGIN_PROTOCOL_VERSIONS", "6");
    let second = command.spawn().expect("starts");
    let gone = async {
        while left.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::client::PATIENCE, gone)
        .await
        .expect("removed");
    drop(second);
}

#[tokio::test]
async fn logs_go_to_stderr_as_json_and_stdout_stays_silent() {
    let base = tempfile::tempdir().expect("a directory");
    let mut command = crate::client::command(base.path());
    command
        .env(tfplug::COOKIE_KEY, tfplug::COOKIE_VALUE)
        .env("PLUGIN_PROTOCOL_VERSIONS", "6")
        .env("TF_LOG", "trace");
    let mut child = command.spawn().expect("starts");
    let mut stdout = tokio::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line)
        .await
        .expect("a line");
    let socket = line.split('|').nth(3).expect("a socket").to_owned();
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .expect("listens");
    let channel = crate::client::channel(stream).await.expect("HTTP/2");
    let mut client = ProviderClient::new(channel.clone());
    let private = Some(b"not ours".to_vec());
    let request = pb::close_ephemeral_resource::Request {
        type_name: "demo_token".to_owned(),
        private,
    };
    client
        .close_ephemeral_resource(request)
        .await
        .expect("an answer");
    GrpcControllerClient::new(channel)
        .shutdown(Empty {})
        .await
        .expect("an answer");
    let output = child.wait_with_output().await.expect("ends");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert!(
        lines
            .iter()
            .all(|l| l["@message"].is_string() && l["@timestamp"].is_string()),
        "{text}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l["@message"] == "token closed" && l["@level"] == "debug"),
        "{text}"
    );
    assert!(lines.iter().any(|l| l["@level"] == "warn"), "{text}");
}
