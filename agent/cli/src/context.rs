//! Which fleet, and as whom: flags before the environment before the context file.

use crate::args::Globals;
use crate::exit::CliError;
use gpuloom_api::Endpoints;
use gpuloom_api::tls::{CaPin, Credential, SecretKey};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// For `--help`: the environment, the context file and the exit codes.
pub const ENVIRONMENT_HELP: &str = "\
Environment (flags come first, then these, then the context file):
  GPULOOM_ENDPOINT   host:port of the fleet's lead; several with commas
  GPULOOM_CA_PIN     pin of its CA: sha256:<64 hex digits>
  GPULOOM_TOKEN      a tenant's token
  GPULOOM_ADMIN_KEY  the admin's private key: PEM, or a file that holds it
  GPULOOM_CONFIG     the context file; default ~/.config/gpuloom/config.toml, with
                     endpoint, ca_pin, token and admin_key as keys
  NO_COLOR           no colours, whatever the terminal can do

Exit codes:
    0  done
    1  the job or the command failed
    2  wrong usage or invalid input
    3  not found
    4  denied: wrong key, token or tenant
    5  the fleet cannot be reached, or gave no answer
    6  conflict: it exists, was changed meanwhile or is in use
  130  interrupted
  `run` exits with the job's own code; 128 + n when signal n ended it";

/// Which fleet, and as whom.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) endpoints: Endpoints,
    pub(crate) pin: CaPin,
    pub(crate) credential: Credential,
}

/// One layer of settings, each perhaps unstated.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    endpoint: Option<String>,
    ca_pin: Option<String>,
    token: Option<String>,
    admin_key: Option<String>,
    /// What the layer's settings are called: `--endpoint`, `GPULOOM_ENDPOINT`, ...
    #[serde(skip)]
    named: &'static str,
}

// === impl Layer ===

impl Layer {
    fn of_flags(globals: &Globals) -> Self {
        Self {
            endpoint: globals.endpoint.clone(),
            ca_pin: globals.ca_pin.clone(),
            token: globals.token.clone(),
            admin_key: globals.admin_key.clone(),
            named: "flags",
        }
    }

    fn of_environment(var: &dyn Fn(&str) -> Option<String>) -> Self {
        let stated = |name| var(name).filter(|value| !value.is_empty());
        Self {
            endpoint: stated("GPULOOM_ENDPOINT"),
            ca_pin: stated("GPULOOM_CA_PIN"),
            token: stated("GPULOOM_TOKEN"),
            admin_key: stated("GPULOOM_ADMIN_KEY"),
            named: "the environment",
        }
    }

    /// The context file; nothing when nobody named one and the usual one is missing.
    fn of_file(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let named = var("GPULOOM_CONFIG").filter(|path| !path.is_empty());
        let Some(path) = named.clone().map(PathBuf::from).or_else(|| usual_file(var)) else {
            return Ok(Self::default());
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(e) => {
                let what = format!("cannot read the context file {}: {e}", path.display());
                return Err(CliError::Usage(what));
            }
        };
        let mut layer: Self = toml::from_str(&text).map_err(|e| {
            CliError::Usage(format!(
                "the context file {} does not read: {}",
                path.display(),
                e.message()
            ))
        })?;
        layer.named = "the context file";
        Ok(layer)
    }

    fn credential(&self) -> Result<Option<Credential>, CliError> {
        match (&self.token, &self.admin_key) {
            (Some(_), Some(_)) => Err(CliError::Usage(format!(
                "{} state both a token and an admin key: leave one out",
                self.named
            ))),
            (Some(token), None) => token
                .parse()
                .map(|t| Some(Credential::Token(t)))
                .map_err(|e| CliError::Usage(format!("{e}"))),
            (None, Some(key)) => admin_key(key).map(|k| Some(Credential::Admin(k))),
            (None, None) => Ok(None),
        }
    }
}

fn usual_file(var: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let config = var("XDG_CONFIG_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| var("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(config.join("gpuloom/config.toml"))
}

/// PEM text, or the path of a file that holds it.
fn admin_key(text: &str) -> Result<SecretKey, CliError> {
    let unreadable = |e| CliError::Usage(format!("{e}"));
    if text.contains("-----BEGIN") {
        return SecretKey::from_pem(text).map_err(unreadable);
    }
    let pem = std::fs::read_to_string(text).map_err(|e| {
        CliError::Usage(format!(
            "cannot read the admin key from {text:?}: {e}; give PEM, or a file that holds it"
        ))
    })?;
    SecretKey::from_pem(&pem).map_err(unreadable)
}

// === impl Context ===

impl Context {
    /// From `globals`, this process's environment and the context file.
    pub(crate) fn load(globals: &Globals) -> Result<Self, CliError> {
        Self::resolve(globals, &|name| std::env::var(name).ok())
    }

    /// Whether anything names a fleet's endpoint.
    pub(crate) fn is_stated(globals: &Globals) -> Result<bool, CliError> {
        let var = |name: &str| std::env::var(name).ok();
        let stated = |layer: Layer| layer.endpoint.is_some();
        Ok(stated(Layer::of_flags(globals))
            || stated(Layer::of_environment(&var))
            || stated(Layer::of_file(&var)?))
    }

    fn resolve(globals: &Globals, var: &dyn Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let layers = [
            Layer::of_flags(globals),
            Layer::of_environment(var),
            Layer::of_file(var)?,
        ];
        let first = |pick: fn(&Layer) -> Option<&String>| layers.iter().find_map(pick);
        let endpoint = first(|l| l.endpoint.as_ref()).ok_or_else(|| {
            CliError::Usage(
                "which fleet? set GPULOOM_ENDPOINT or --endpoint to its host:port".to_owned(),
            )
        })?;
        let pin = first(|l| l.ca_pin.as_ref()).ok_or_else(|| {
            CliError::Usage(
                "which CA? set GPULOOM_CA_PIN or --ca-pin to the fleet's pin (connection.ca_pin \
                 in Terraform)"
                    .to_owned(),
            )
        })?;
        let mut credential = Credential::Anonymous;
        for layer in &layers {
            if let Some(stated) = layer.credential()? {
                credential = stated;
                break;
            }
        }
        Ok(Self {
            endpoints: endpoint
                .parse()
                .map_err(|e| CliError::Usage(format!("{e}")))?,
            pin: pin.parse().map_err(|e| CliError::Usage(format!("{e}")))?,
            credential,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn pin(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn resolve(globals: &Globals, vars: &[(&str, &str)]) -> Result<Context, CliError> {
        let vars: BTreeMap<_, _> = vars.iter().copied().collect();
        Context::resolve(globals, &|name| vars.get(name).map(|v| (*v).to_owned()))
    }

    #[test]
    fn flags_come_before_the_environment_before_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.toml");
        let text = format!("endpoint = \"file:1\"\nca_pin = \"{}\"\n", pin('c'));
        std::fs::write(&file, text).expect("written");
        let path = file.display().to_string();
        let file_only = [("GPULOOM_CONFIG", path.as_str())];
        let found = resolve(&Globals::default(), &file_only).expect("resolves");
        assert_eq!(found.endpoints.to_string(), "file:1");

        let pin_b = pin('b');
        let both = [
            ("GPULOOM_CONFIG", path.as_str()),
            ("GPULOOM_ENDPOINT", "env:1,env:2"),
            ("GPULOOM_CA_PIN", pin_b.as_str()),
        ];
        let found = resolve(&Globals::default(), &both).expect("resolves");
        assert_eq!(found.endpoints.to_string(), "env:1,env:2");
        assert_eq!(found.pin.to_string(), pin_b);

        let flags = Globals {
            endpoint: Some("flag:1".into()),
            ..Globals::default()
        };
        let found = resolve(&flags, &both).expect("resolves");
        assert_eq!(found.endpoints.to_string(), "flag:1");
        assert_eq!(found.pin.to_string(), pin_b);
        assert!(matches!(found.credential, Credential::Anonymous));
    }

    #[test]
    fn a_credential_of_a_nearer_layer_hides_those_further_away() {
        let key = SecretKey::generate().expect("a key");
        let pem = key.to_pem();
        let pin = pin('a');
        let vars = [
            ("GPULOOM_ENDPOINT", "a:1"),
            ("GPULOOM_CA_PIN", pin.as_str()),
            ("GPULOOM_ADMIN_KEY", pem.as_str()),
        ];
        let found = resolve(&Globals::default(), &vars).expect("resolves");
        assert!(matches!(found.credential, Credential::Admin(_)));
        let token = gpuloom_api::BearerToken::new_submit().expect("random");
        let flags = Globals {
            token: Some(token.expose().to_owned()),
            ..Globals::default()
        };
        let found = resolve(&flags, &vars).expect("resolves");
        assert!(matches!(found.credential, Credential::Token(_)));
    }

    #[test]
    fn an_admin_key_is_pem_or_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("admin.pem");
        let key = SecretKey::generate().expect("a key");
        std::fs::write(&file, key.to_pem()).expect("written");
        let read = admin_key(&file.display().to_string()).expect("reads");
        assert_eq!(read.public_key(), key.public_key());
        assert!(admin_key(&key.to_pem()).is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_says_what_to_set() {
        let pin = pin('a');
        let good = [
            ("GPULOOM_ENDPOINT", "a:1"),
            ("GPULOOM_CA_PIN", pin.as_str()),
        ];
        for (extra, expected) in [
            (
                vec![("GPULOOM_ENDPOINT", "")],
                "set GPULOOM_ENDPOINT or --endpoint",
            ),
            (
                vec![("GPULOOM_CA_PIN", "")],
                "set GPULOOM_CA_PIN or --ca-pin",
            ),
            (vec![("GPULOOM_ENDPOINT", "a")], "use host:port"),
            (
                vec![("GPULOOM_CA_PIN", "sha256:1")],
                "64 hexadecimal digits",
            ),
            (vec![("GPULOOM_TOKEN", "x")], "gpuloom token create"),
            (
                vec![("GPULOOM_ADMIN_KEY", "/nonexistent")],
                "give PEM, or a file",
            ),
            (
                vec![("GPULOOM_TOKEN", "x"), ("GPULOOM_ADMIN_KEY", "y")],
                "leave one out",
            ),
            (
                vec![("GPULOOM_CONFIG", "/nonexistent")],
                "cannot read the context file",
            ),
        ] {
            let vars: Vec<_> = good.iter().copied().chain(extra.clone()).collect();
            let error = resolve(&Globals::default(), &vars).expect_err(expected);
            assert_eq!(error.exit().0, 2);
            assert!(error.to_string().contains(expected), "{extra:?}: {error}");
        }
    }

    #[test]
    fn a_context_file_with_an_unknown_key_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "endpont = \"a:1\"\n").expect("written");
        let path = file.display().to_string();
        let error = resolve(&Globals::default(), &[("GPULOOM_CONFIG", path.as_str())]);
        let error = error.expect_err("a typing error").to_string();
        assert!(error.contains("endpont"), "{error}");
    }
}
