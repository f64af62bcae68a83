//! Just enough XML to read moto's answers and to leave items out of them.

/// The text of the first element of this name; `None` without one.
pub(crate) fn text<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let from = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let to = xml[from..].find(&format!("</{name}>"))? + from;
    Some(&xml[from..to])
}

/// The `<item>`s directly inside the first element of this name; empty without one.
pub(crate) fn items<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let ranges = item_ranges(xml, name).into_iter();
    ranges.map(|(from, to)| &xml[from..to]).collect()
}

/// `xml` without the items of the first element of this name that `keep` refuses.
pub(crate) fn retain_items(xml: &str, name: &str, mut keep: impl FnMut(&str) -> bool) -> String {
    let mut out = String::with_capacity(xml.len());
    let mut at = 0;
    for (from, to) in item_ranges(xml, name) {
        out.push_str(&xml[at..from]);
        if keep(&xml[from..to]) {
            out.push_str(&xml[from..to]);
        }
        at = to;
    }
    out.push_str(&xml[at..]);
    out
}

/// Where the items directly inside the first element of this name begin and end, tags included.
fn item_ranges(xml: &str, name: &str) -> Vec<(usize, usize)> {
    const OPEN: &str = "<item>";
    const CLOSE: &str = "</item>";
    let Some(start) = xml.find(&format!("<{name}>")) else {
        return Vec::new();
    };
    let end = format!("</{name}>");
    let (mut ranges, mut depth, mut from) = (Vec::new(), 0_usize, start);
    let mut at = start;
    while let Some(next) = xml[at..].find('<').map(|n| n + at) {
        let rest = &xml[next..];
        at = next + 1;
        if rest.starts_with(OPEN) {
            if depth == 0 {
                from = next;
            }
            depth += 1;
        } else if rest.starts_with(CLOSE) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                ranges.push((from, next + CLOSE.len()));
            }
        } else if depth == 0 && rest.starts_with(&end) {
            break;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<r><set><item><a>1</a><in><item>x</item></in></item><item><a>2</a></item></set>\
                       <other><item><a>3</a></item></other></r>";

    #[test]
    fn items_of_a_set_are_found_whatever_they_hold() {
        let found = items(XML, "set");
        assert_eq!(found.len(), 2);
        assert_eq!(text(found[0], "a"), Some("1"));
        assert_eq!(text(found[1], "a"), Some("2"));
        assert_eq!(items(XML, "none").len(), 0);
    }

    #[test]
    fn an_item_can_be_left_out() {
        let less = retain_items(XML, "set", |item| text(item, "a") != Some("1"));
        assert_eq!(
            less,
            "<r><set><item><a>2</a></item></set><other><item><a>3</a></item></other></r>"
        );
    }
}
