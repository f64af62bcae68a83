//! Reads: only a handler that is sure makes an object vanish.

use tfplug::Value;
use tfplug::proto::tfplugin6 as pb;
use tfplug::proto::tfplugin6::provider_server::Provider as _;
use tonic::Request;

use crate::thing::stored;
use crate::{Terraform, told};

#[tokio::test]
async fn only_a_confirmed_absence_removes_an_object() {
    let terraform = Terraform::new().await;
    let kept = |chaos: &str| stored("a", chaos);
    let table = [
        ("", kept("").with("size", 9), ""),
        ("gone", Value::Null, ""),
        ("read error", kept("read error"), "error : The cloud failed"),
        ("read panic", kept("read panic"), "error : Read failed"),
        ("null", kept("null"), "error : Read returned nothing"),
        (
            "unknown",
            kept("unknown"),
            "error size: Unknown value for size",
        ),
    ];
    for (chaos, state, problem) in table {
        let request = pb::read_resource::Request {
            type_name: "test_thing".to_owned(),
            current_state: terraform.message(&stored("a", chaos)),
            private: br#"{"token":"t"}"#.to_vec(),
            ..Default::default()
        };
        let answer = terraform
            .service
            .read_resource(Request::new(request))
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(terraform.value(&answer.new_state), state, "{chaos}");
        assert_eq!(told(&answer.diagnostics).join("\n"), problem, "{chaos}");
        let private: &[u8] = if chaos == "gone" {
            b""
        } else {
            br#"{"token":"t"}"#
        };
        assert_eq!(answer.private, private, "{chaos}");
    }
}
