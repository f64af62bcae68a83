//! What a lead leaves on its own instance for those who look it up: labels, which its service account may set
//! (`compute.instances.setLabels`) and which run nothing; metadata would need the right to run scripts anywhere.

use google_cloud_compute_v1::model::InstancesSetLabelsRequest;
use gpuloom_cloud::{CloudError, FailureClass};
use gpuloom_fleet::InstanceId;

use crate::client::Once;
use crate::cloud::GcpCloud;
use crate::disks::not_done;
use crate::errors::call_error;
use crate::labels;
use crate::operation::done;

/// How often a change that met another one is tried again.
const TRIES: u32 = 5;

impl GcpCloud {
    /// See [`gpuloom_cloud::Cloud::read_attribute`].
    pub(crate) async fn attribute(
        &self,
        id: &InstanceId,
        key: &str,
    ) -> Result<Option<String>, CloudError> {
        let Some(found) = self.find_anywhere(id.as_str()).await? else {
            return Ok(None);
        };
        labels::read_attribute(&found.labels, key)
            .map_err(|why| CloudError::new(FailureClass::Invalid, why))
    }

    /// See [`gpuloom_cloud::Cloud::write_attribute`].
    pub(crate) async fn set_attribute(
        &self,
        id: &InstanceId,
        key: &str,
        value: &str,
    ) -> Result<(), CloudError> {
        let invalid = |why: String| CloudError::new(FailureClass::Invalid, why);
        let parts = labels::write_attribute(key, value).map_err(invalid)?;
        let what = format!("cannot set the labels of {id}");
        for _ in 0..TRIES {
            let Some(found) = self.find_anywhere(id.as_str()).await? else {
                return Err(invalid(format!(
                    "there is no instance {id} in {}",
                    self.options.region
                )));
            };
            let mut wanted = found.labels.clone();
            wanted.retain(|label, _| !labels::is_of_attribute(label, key));
            wanted.extend(parts.iter().cloned());
            if wanted == found.labels {
                return Ok(());
            }
            let mut body = InstancesSetLabelsRequest::new().set_labels(wanted);
            if let Some(fingerprint) = found.label_fingerprint.clone() {
                body = body.set_label_fingerprint(fingerprint);
            }
            let call = self
                .clients
                .instances
                .set_labels()
                .set_project(&self.options.project);
            let call = call
                .set_zone(Self::zone_of(&found))
                .set_instance(id.as_str());
            match call.set_body(body).once().send().await {
                Ok(started) => {
                    let done = done(&self.clients, &self.options, started).await;
                    return done.map_err(|e| not_done(&what, e));
                }
                // Somebody else set labels in between.
                Err(e) if e.http_status_code() == Some(412) => {}
                Err(e) => return Err(call_error(&what, e)),
            }
        }
        let why = format!("{what}: others change them all the time ({TRIES} tries)");
        Err(CloudError::new(FailureClass::Transient, why))
    }
}
