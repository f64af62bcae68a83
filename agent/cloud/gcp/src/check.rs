//! What can be said of a place before anything is launched.

use google_cloud_gax::error::Error;
use gpuloom_cloud::{CloudError, FailureClass};
use gpuloom_fleet::{GcpPlace, PoolPlace};

use crate::cloud::GcpCloud;
use crate::errors::{call_error, is_not_found};

/// Something of a place that will not work as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// E.g. `gcp.zones`.
    pub field: String,
    /// What is wrong with which value, and what would help.
    pub message: String,
}

impl GcpCloud {
    /// Looks the place's zones, machine types and image up; empty when all of them are there. Launches nothing.
    ///
    /// # Errors
    /// [`CloudError`]: nothing is known.
    pub async fn check(&self, place: &PoolPlace) -> Result<Vec<Warning>, CloudError> {
        let PoolPlace::Gcp(place) = place else {
            let why = format!("place = {}: Google Cloud checks gcp places", place.kind());
            return Err(CloudError::new(FailureClass::Invalid, why));
        };
        let mut warnings = self.check_zones(place).await?;
        let stock = self.stock(place).await?;
        for name in &place.machine_types {
            let has = |z: &crate::offerings::ZoneStock| {
                z.types.iter().any(|t| t.name.as_ref() == Some(name))
            };
            if !stock.iter().any(has) {
                warnings.push(Warning {
                    field: "gcp.machine_types".to_owned(),
                    message: format!(
                        "{name:?} is not sold in any of the zones: see `gcloud compute machine-types list --filter=name={name}`"
                    ),
                });
            }
        }
        warnings.extend(self.check_image(&place.image).await?);
        Ok(warnings)
    }

    async fn check_zones(&self, place: &GcpPlace) -> Result<Vec<Warning>, CloudError> {
        let zones = self.list_zones().await?;
        let all: Vec<&str> = zones.iter().map(|(name, _)| name.as_str()).collect();
        let warning = |field: &str, message| Warning {
            field: field.to_owned(),
            message,
        };
        if zones.is_empty() {
            let message = format!(
                "{:?} has no zones: is it a region of Google Cloud?",
                place.region
            );
            return Ok(vec![warning("gcp.region", message)]);
        }
        let mut warnings = Vec::new();
        for zone in &place.zones {
            match zones.iter().find(|(name, _)| name == zone) {
                Some((_, true)) => {}
                Some((_, false)) => {
                    warnings.push(warning("gcp.zones", format!("{zone:?} is down")))
                }
                None => {
                    let message = format!(
                        "{zone:?} is not a zone of {}: use {}",
                        place.region,
                        all.join(", ")
                    );
                    warnings.push(warning("gcp.zones", message));
                }
            }
        }
        Ok(warnings)
    }

    async fn check_image(&self, image: &str) -> Result<Option<Warning>, CloudError> {
        let Some((project, name)) = parse_image(image) else {
            let message = format!(
                "{image:?}: use \"projects/P/global/images/I\" or \"projects/P/global/images/family/F\""
            );
            return Ok(Some(image_warning(message)));
        };
        let found: Result<_, Error> = match name.strip_prefix("family/") {
            Some(family) => {
                let call = self.clients.images.get_from_family().set_project(project);
                call.set_family(family).send().await
            }
            None => {
                self.clients
                    .images
                    .get()
                    .set_project(project)
                    .set_image(name)
                    .send()
                    .await
            }
        };
        match found {
            Ok(found) if found.deprecated.is_some() => Ok(Some(image_warning(format!(
                "{image:?} is deprecated: launches may be refused"
            )))),
            Ok(_) => Ok(None),
            Err(e) if is_not_found(&e) => {
                Ok(Some(image_warning(format!("{image:?} does not exist"))))
            }
            // Images of other projects may be used by those who may not look at them.
            Err(e) if e.http_status_code() == Some(403) => Ok(None),
            Err(e) => Err(call_error(
                &format!("cannot look up the image {image:?}"),
                e,
            )),
        }
    }
}

fn image_warning(message: String) -> Warning {
    Warning {
        field: "gcp.image".to_owned(),
        message,
    }
}

/// Project and name (or `family/F`) of an image's path or URL.
fn parse_image(image: &str) -> Option<(&str, &str)> {
    let (front, name) = image.split_once("/global/images/")?;
    let project = front.rsplit_once("projects/").map(|(_, project)| project)?;
    (!project.is_empty() && !name.is_empty()).then_some((project, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_path_or_an_address() {
        for (image, parsed) in [
            ("projects/p/global/images/i", Some(("p", "i"))),
            (
                "https://compute.googleapis.com/compute/v1/projects/p/global/images/family/f",
                Some(("p", "family/f")),
            ),
            ("debian-12", None),
            ("projects//global/images/i", None),
        ] {
            assert_eq!(parse_image(image), parsed, "{image}");
        }
    }
}
