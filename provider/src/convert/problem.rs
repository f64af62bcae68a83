//! Problems and refusals as diagnostics at the attribute they are about.

use gpuloom_fleet::{Problem, Problems};
use tfplug::{Diagnostic, Diagnostics, Path};

/// Fields whose attribute has another name because it carries its unit, or needs none.
const RENAMED: [(&str, &str); 2] = [("gpu_memory", "gpu_memory_gib"), ("grace_s", "grace")];

/// One error for each problem, at its attribute.
pub(crate) fn diagnostics(problems: &Problems) -> Diagnostics {
    problems.0.iter().map(diagnostic).collect()
}

/// An error at the attribute that the problem is about.
pub(crate) fn diagnostic(problem: &Problem) -> Diagnostic {
    let path = path(&problem.field);
    let what = if path.is_empty() {
        problem.field.clone()
    } else {
        path.to_string()
    };
    let mut detail = match problem.value.as_str() {
        "" => String::new(),
        value => format!("{what} is {value:?}. "),
    };
    if let Some(first) = problem.fix.chars().next() {
        detail.extend(first.to_uppercase());
        detail.push_str(&problem.fix[first.len_utf8()..]);
        detail.push('.');
    }
    Diagnostic::error(format!("{what} {}", problem.message), detail.trim_end()).at(path)
}

/// The attribute of a problem's field: `limit.gpu_memory`, `labels["a.b"]`.
pub(crate) fn path(field: &str) -> Path {
    let (names, keys) = match field.find('[') {
        Some(at) => field.split_at(at),
        None => (field, ""),
    };
    let mut path = Path::empty();
    for name in names.split('.').filter(|name| !name.is_empty()) {
        let renamed = RENAMED.iter().find(|(from, _)| *from == name);
        path = path.attr(renamed.map_or(name, |(_, to)| to));
    }
    let index = keys.strip_prefix('[').and_then(|k| k.strip_suffix(']'));
    if let Some(index) = index.and_then(|i| i.parse().ok()) {
        return path.index(index);
    }
    let key = keys.strip_prefix("[\"").and_then(|k| k.strip_suffix("\"]"));
    match key {
        Some(key) => path.key(key.replace("\\\"", "\"").replace("\\\\", "\\")),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_points_at_its_attribute() {
        for (field, want) in [
            ("weight", "weight"),
            ("limit.gpu_memory", "limit.gpu_memory_gib"),
            ("grace_s", "grace"),
            ("autoscaling.max", "autoscaling.max"),
            ("labels[\"a.b/c\"]", "labels[\"a.b/c\"]"),
            ("gcp.zones[1]", "gcp.zones[1]"),
            ("aws.tags[\"a:b\"]", "aws.tags[\"a:b\"]"),
        ] {
            assert_eq!(path(field).to_string(), want);
        }
    }

    #[test]
    fn a_diagnostic_says_what_is_there_and_what_to_write() {
        let problem = Problem::new(
            "weight",
            0,
            "is out of range",
            "use a value from 1 to 10000",
        );
        let said = diagnostic(&problem);
        assert_eq!(said.summary, "weight is out of range");
        assert_eq!(said.detail, "weight is \"0\". Use a value from 1 to 10000.");
    }
}
