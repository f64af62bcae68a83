//! What people are told when the lead or a cloud says no.

use gpuloom_api::{CallError, Refusal, RefusalCode};
use tfplug::{Diagnostic, Diagnostics};

use crate::convert;

/// A failed call as diagnostics: see [`refused`] for a fleet that answered no.
pub(crate) fn failed(tried: &str, error: &CallError, import: Option<&str>) -> Diagnostics {
    match error {
        CallError::Refused(refusal) => refused(tried, refusal, import),
        other => Diagnostic::error(tried, sentences(&[&other.to_string()])).into(),
    }
}

/// A refusal as diagnostics: one for each attribute it names, else one with its message and fix.
/// `import` replaces the fix where the object exists already.
fn refused(tried: &str, refusal: &Refusal, import: Option<&str>) -> Diagnostics {
    if !refusal.problems.0.is_empty() {
        return convert::diagnostics(&refusal.problems);
    }
    let fix = match (refusal.code, import) {
        (RefusalCode::AlreadyExists, Some(import)) => {
            format!("choose another name, or take it over with: {import}")
        }
        _ => refusal.fix.clone(),
    };
    Diagnostic::error(tried, sentences(&[&refusal.message, &fix])).into()
}

/// Each part as a sentence: first letter upper case, a full stop at the end; empty parts left out.
pub(crate) fn sentences(parts: &[&str]) -> String {
    let sentence = |part: &&str| {
        let part = part.trim().trim_end_matches('.');
        let mut chars = part.chars();
        let first = chars.next()?;
        Some(format!("{}{}.", first.to_uppercase(), chars.as_str()))
    };
    parts
        .iter()
        .filter_map(sentence)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_message_and_its_way_out() {
        let refusal = Refusal::already_exists("tenant", "a", "cli", "run: x");
        let said = failed(
            "Cannot create tenant a",
            &refusal.into(),
            Some("terraform import t f/a"),
        );
        let detail = &said.iter().next().expect("one").detail;
        assert_eq!(
            detail,
            "Tenant a exists already, declared by cli. Choose another name, or take it over with: \
             terraform import t f/a."
        );
    }

    #[test]
    fn problems_point_at_their_attributes() {
        let mut problems = gpuloom_fleet::Problems::default();
        problems.add("limit.gpu_memory", 1, "is too little", "use more");
        let said = failed(
            "Cannot",
            &Refusal::invalid("quota q", problems).into(),
            None,
        );
        let path = said
            .iter()
            .next()
            .and_then(|d| d.path.clone())
            .expect("a path");
        assert_eq!(path.to_string(), "limit.gpu_memory_gib");
    }
}
