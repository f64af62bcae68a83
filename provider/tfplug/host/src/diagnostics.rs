//! What a provider says about problems, decoded and held to the schema.

use tfplug::proto::tfplugin6 as wire;
use tfplug::{Diagnostic, Path, Severity};

use crate::check::{Rule, Violation};
use crate::schema::BlockSchema;

/// Decodes diagnostics. A severity that is neither error nor warning, which Terraform shows without stopping, and an
/// empty summary come back as violations beside them (trap 20).
pub(crate) fn decode(list: &[wire::Diagnostic]) -> (Vec<Diagnostic>, Vec<Violation>) {
    let mut wrong = Vec::new();
    let decoded = list
        .iter()
        .map(|one| {
            let path = one.attribute.as_ref().map(Path::from_proto);
            let place = path.as_ref().map(ToString::to_string).unwrap_or_default();
            let severity = match wire::diagnostic::Severity::try_from(one.severity) {
                Ok(wire::diagnostic::Severity::Error) => Severity::Error,
                Ok(wire::diagnostic::Severity::Warning) => Severity::Warning,
                _ => {
                    let message = format!(
                        "severity {} of {:?} is neither error nor warning",
                        one.severity, one.summary
                    );
                    wrong.push(Violation::new(Rule::DIAG, place.clone(), message));
                    Severity::Error
                }
            };
            if one.summary.trim().is_empty() {
                wrong.push(Violation::new(
                    Rule::DIAG,
                    place,
                    "a diagnostic without a summary",
                ));
            }
            Diagnostic {
                severity,
                summary: one.summary.clone(),
                detail: one.detail.clone(),
                path,
            }
        })
        .collect();
    (decoded, wrong)
}

/// Every diagnostic whose path leads to nothing in this schema: Terraform would point at the whole block instead.
pub(crate) fn misplaced(list: &[Diagnostic], block: &BlockSchema) -> Vec<Violation> {
    list.iter()
        .filter_map(|one| one.path.as_ref().map(|path| (one, path)))
        .filter(|(_, path)| !block.has_path(path))
        .map(|(one, path)| {
            let message = format!(
                "the path of {:?} leads to nothing in the schema",
                one.summary
            );
            Violation::new(Rule::DIAG, path.to_string(), message)
        })
        .collect()
}

/// One line for a message: severity, place, summary, detail.
pub(crate) fn describe(one: &Diagnostic) -> String {
    let severity = match one.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = one
        .path
        .as_ref()
        .map(|path| format!(" at {path}"))
        .unwrap_or_default();
    format!("{severity}{place}: {}: {}", one.summary, one.detail)
}

/// Whether one of them is an error.
pub(crate) fn has_errors(list: &[Diagnostic]) -> bool {
    list.iter().any(|one| one.severity == Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{AttributeKind, AttributeSchema};
    use tfplug::Type;

    #[test]
    fn a_diagnostic_without_severity_or_with_a_lost_path_is_caught() {
        let silent = wire::Diagnostic {
            summary: "odd".to_owned(),
            ..wire::Diagnostic::default()
        };
        let (_, wrong) = decode(&[silent]);
        assert!(
            wrong
                .iter()
                .any(|one| one.rule == Rule::DIAG && one.message.contains("severity 0")),
            "{wrong:?}"
        );

        let mut block = BlockSchema::default();
        block.attributes.insert(
            "tags".to_owned(),
            AttributeSchema {
                kind: AttributeKind::Plain(Type::map(Type::String)),
                required: true,
                optional: false,
                computed: false,
                sensitive: false,
                write_only: false,
                deprecated: false,
                description: String::new(),
            },
        );
        let good = Diagnostic::error("bad", "").at(Path::root("tags").key("a"));
        let lost = Diagnostic::error("bad", "").at(Path::root("labels"));
        let deep = Diagnostic::error("bad", "").at(Path::root("tags").key("a").index(3));
        let wrong = misplaced(&[good, lost, deep], &block);
        let places: Vec<_> = wrong.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(places, ["labels", "tags[\"a\"][3]"]);
    }
}
