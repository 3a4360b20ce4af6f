//! Reads the tables of docs/SEMANTICS.md, and the names of tests out of sources.
//!
//! Not a parser of Markdown or Rust: it knows the one form that is used here and refuses every other.

/// One promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Line number in the document, from 1.
    pub(crate) at: usize,
    /// Its name, such as `OA-1`.
    pub(crate) line: String,
    pub(crate) promise: String,
    /// Names of the tests that prove it.
    pub(crate) tests: Vec<String>,
    /// What parts of it wait for.
    pub(crate) pending: Vec<String>,
}

/// All rows of all tables whose first cell is the name of a line. The error begins with the line number.
pub(crate) fn rows(document: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (index, text) in document.lines().enumerate() {
        let at = index + 1;
        let Some(inside) = text.strip_prefix('|') else { continue };
        let cells: Vec<&str> = inside.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "Line" || cells[0].chars().all(|c| "-: ".contains(c)) {
            continue;
        }
        let [line, promise, tests, pending] = cells[..] else {
            return Err(format!("{at}: a line has 4 cells, not {}", cells.len()));
        };
        if !is_line(line) {
            return Err(format!("{at}: {line:?} is no name of a line"));
        }
        rows.push(Row {
            at,
            line: line.to_owned(),
            promise: promise.to_owned(),
            tests: names_in(tests).map_err(|what| format!("{at}: {what}"))?,
            pending: words_in(pending).map_err(|what| format!("{at}: {what}"))?,
        });
    }
    Ok(rows)
}

/// Two capital letters, a hyphen, a number.
fn is_line(name: &str) -> bool {
    name.split_once('-').is_some_and(|(prefix, number)| {
        prefix.len() == 2 && prefix.chars().all(|c| c.is_ascii_uppercase()) && number.parse::<u32>().is_ok()
    })
}

/// Names in backquotes, with a dot between them.
fn names_in(cell: &str) -> Result<Vec<String>, String> {
    if cell.is_empty() {
        return Ok(Vec::new());
    }
    let name = |part: &str| {
        let name = part.trim().strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        let is_name =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
        name.filter(is_name).map(str::to_owned).ok_or_else(|| format!("{part:?} is no name of a test"))
    };
    cell.split('·').map(name).collect()
}

/// `pending: ` and words with commas between them.
fn words_in(cell: &str) -> Result<Vec<String>, String> {
    if cell.is_empty() {
        return Ok(Vec::new());
    }
    let words =
        cell.strip_prefix("pending:").ok_or_else(|| format!("{cell:?} doesn't begin with pending:"))?;
    Ok(words.split(',').map(|word| word.trim().to_owned()).collect())
}

/// Names of the functions in a source that directly follow a `#[test]` or `#[tokio::test]`, other attributes and
/// comments between them aside.
pub(crate) fn test_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            names.extend(function.and_then(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_taken_apart() {
        let document = concat!(
            "| Line | What | By | Waits |\n",
            "|---|:---|---|---|\n",
            "| OA-1 | It holds. | `a_1` · `b` | pending: wire, x |\n",
        );
        let row = Row {
            at: 3,
            line: "OA-1".into(),
            promise: "It holds.".into(),
            tests: vec!["a_1".into(), "b".into()],
            pending: vec!["wire".into(), "x".into()],
        };
        assert_eq!(rows(document), Ok(vec![row]));
        assert_eq!(rows("| OA-1 | It holds. | | |\n").unwrap()[0].tests, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_row_is_refused_with_its_place() {
        for bad in [
            "| OA-1 | x |",
            "| OA | x | | |",
            "| OA-1 | x | a | |",
            "| OA-1 | x | | later |",
            "| OA-1 | x | `` | |",
        ] {
            let refused = rows(&format!("text\n{bad}\n")).unwrap_err();
            assert!(refused.starts_with("2: "), "{bad}: {refused}");
        }
    }

    #[test]
    fn only_functions_that_are_tests_count() {
        let source = concat!(
            "fn helper() {}\n#[test]\n#[ignore]\n// why\nfn one(\n",
            "#[tokio::test(x)]\nasync fn two() {}\nfn three() {}\n",
        );
        assert_eq!(test_names(source), ["one", "two"]);
    }
}
