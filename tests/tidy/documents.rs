//! Markdown as the structure tests see it: its links, and the places in it that a link can lead to.
//!
//! It isn't a Markdown parser: fenced blocks and code spans are left out, then `[text](target)` and `[name]: target`
//! are links. Headings get the names that the usual hosts give them.

/// A link out of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The line it stands on, counted from 1.
    pub(crate) line: usize,
    /// Path relative to the document; empty if the link stays inside it.
    pub(crate) file: String,
    /// Name of a heading; empty if the link leads to the file.
    pub(crate) heading: String,
}

/// The links of a document that lead to files of the repository.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (line, prose) in prose(text) {
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let reference = prose
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
            .and_then(|(_, target)| target.split_whitespace().next());
        for target in inline.chain(reference) {
            let target = target.trim_matches(['<', '>']);
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            found.push(Link { line, file: file.to_owned(), heading: heading.to_owned() });
        }
    }
    found
}

/// The names of a document's headings.
pub(crate) fn headings(text: &str) -> Vec<String> {
    let name = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().chars();
        kept.filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect::<String>()
            .to_lowercase()
    };
    let lines = text.lines().scan(false, |in_fence, line| {
        *in_fence ^= line.trim_start().starts_with("```");
        Some(if *in_fence { "" } else { line })
    });
    lines.filter(|line| line.starts_with('#')).map(name).collect()
}

/// The lines of a document without fenced blocks and code spans, with their numbers.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut in_fence = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            lines.push((index + 1, line.split('`').step_by(2).collect()));
        }
    }
    lines
}

#[test]
fn links_are_found_in_prose_and_not_in_code() {
    let text = "# One, `two` & three\n[a](b.md#c) `[d](e)` ![f](g.png)\n```\n[h](i)\n# no\n```\n[j]: k.md\n\
                [l](https://m)";
    let found = links(text);
    let targets: Vec<(usize, &str, &str)> =
        found.iter().map(|link| (link.line, link.file.as_str(), link.heading.as_str())).collect();
    assert_eq!(targets, [(2, "b.md", "c"), (2, "g.png", ""), (7, "k.md", "")]);
    assert_eq!(headings(text), ["one-two--three"]);
}
