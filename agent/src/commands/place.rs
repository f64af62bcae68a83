//! Places as they are typed: `aws:us-east-1`, `gcp:my-project/us-central1`, `azure:SUBSCRIPTION/GROUP/eastus`.

use gpuloom_fleet::{AwsPlace, AzurePlace, GcpPlace, PoolPlace};
use std::fmt;
use std::str::FromStr;

/// A region of a cloud, with what it takes to ask there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceArg(pub PoolPlace);

const EXPECTED: &str = "aws:REGION[/SUBNET,...], gcp:PROJECT/REGION[/ZONE,...] or azure:SUBSCRIPTION/GROUP/LOCATION[/ZONE,...], with @URL of a private endpoint at its end";

// === impl PlaceArg ===

impl FromStr for PlaceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a place: {EXPECTED}");
        let (path, endpoint) = match text.split_once('@') {
            Some((path, url)) if url.starts_with("http://") || url.starts_with("https://") => {
                (path, Some(url.to_owned()))
            }
            Some(_) => return Err(bad()),
            None => (text, None),
        };
        let (cloud, path) = path.split_once(':').ok_or_else(bad)?;
        let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        if parts.iter().any(String::is_empty) {
            return Err(bad());
        }
        let list = |text: Option<&String>| -> Vec<String> {
            text.map(|t| t.split(',').map(str::to_owned).collect())
                .unwrap_or_default()
        };
        let place = match (cloud, &parts[..]) {
            ("aws", [region, rest @ ..]) if rest.len() <= 1 => PoolPlace::Aws(Box::new(AwsPlace {
                region: region.clone(),
                subnets: list(rest.first()),
                endpoint,
                ..AwsPlace::default()
            })),
            ("gcp", [project, region, rest @ ..]) if rest.len() <= 1 => {
                PoolPlace::Gcp(Box::new(GcpPlace {
                    project: project.clone(),
                    region: region.clone(),
                    zones: list(rest.first()),
                    endpoint,
                    ..GcpPlace::default()
                }))
            }
            ("azure", [subscription, group, location, rest @ ..]) if rest.len() <= 1 => {
                PoolPlace::Azure(Box::new(AzurePlace {
                    subscription: subscription.clone(),
                    resource_group: group.clone(),
                    location: location.clone(),
                    zones: list(rest.first()),
                    endpoint,
                    ..AzurePlace::default()
                }))
            }
            _ => return Err(bad()),
        };
        Ok(Self(place))
    }
}

impl fmt::Display for PlaceArg {
    /// As it is typed, without zones and endpoint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.0.region().unwrap_or_default();
        match &self.0 {
            PoolPlace::Azure(p) => {
                write!(f, "azure:{}/{}/{region}", p.subscription, p.resource_group)
            }
            PoolPlace::Gcp(p) => write!(f, "gcp:{}/{region}", p.project),
            place => write!(f, "{}:{region}", place.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_people_type_them() {
        for (text, shown, zones) in [
            ("aws:us-east-1", "aws:us-east-1", 0),
            ("aws:us-east-1/subnet-a,subnet-b", "aws:us-east-1", 2),
            (
                "gcp:my-project/us-central1",
                "gcp:my-project/us-central1",
                0,
            ),
            ("gcp:p/us-central1/us-central1-a", "gcp:p/us-central1", 1),
            ("azure:s/g/eastus/1,2", "azure:s/g/eastus", 2),
            ("azure:s/g/eastus@http://127.0.0.1:1", "azure:s/g/eastus", 0),
        ] {
            let place: PlaceArg = text.parse().expect(text);
            assert_eq!(place.to_string(), shown);
            assert_eq!(place.0.zones().len(), zones, "{text}");
            let endpoint = text.split_once('@').map(|(_, url)| url);
            assert_eq!(place.0.endpoint(), endpoint, "{text}");
        }
        for text in [
            "",
            "aws",
            "aws:",
            "gcp:us-central1",
            "azure:s/eastus",
            "ibm:x",
            "aws:a/b/c",
            "aws:a@host",
            "gcp:p//",
        ] {
            let error = text.parse::<PlaceArg>().expect_err(text);
            assert!(error.contains("gcp:PROJECT/REGION"), "{error}");
        }
    }
}
