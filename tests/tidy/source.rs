//! One Rust file as the structure tests see it: its text, its code, and the part of the code that is shipped.
//!
//! This is a scanner, not a parser: it knows comments, literals, brackets and paths, which is enough to tell a name
//! that is used from a name that is talked about. Macros aren't expanded.
//!
//! Invariants
//!   * text, code and product have the same lines, so a line number found in one holds in the others
//!   * what isn't code (comments, the insides of literals) and what isn't product (`#[cfg(test)]`) is blank, not gone

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path below the root of the repository, with `/` between the parts.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// The file without comments and without what stands inside string and character literals.
    pub(crate) code: String,
    /// The code without the items that only exist in tests.
    pub(crate) product: String,
    /// Modules that are declared here, live in a file of their own, and only exist in tests.
    pub(crate) test_modules: Vec<String>,
}

/// A path of names as it stands in code: `std::fs::File`, or a single name. Imports in braces are written out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The line it ends on, counted from 1.
    pub(crate) line: usize,
    /// The names, joined by `::`.
    pub(crate) path: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: String) -> Source {
        let code = without_comments_and_literals(&text);
        let (product, test_modules) = without_tests(&code);
        Source { path: path.to_owned(), text, code, product, test_modules }
    }

    /// Marks the whole file as test code.
    pub(crate) fn is_test_only(&mut self) {
        self.product = blank(&self.product);
    }

    /// Where the modules declared in this file have theirs: below this path there are only its children.
    pub(crate) fn module_dir(&self) -> String {
        let (dir, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        match file {
            "lib.rs" | "main.rs" | "mod.rs" => dir.to_owned(),
            _ => format!("{dir}/{}", file.trim_end_matches(".rs")),
        }
    }
}

impl Use {
    /// Whether this is `wanted` or something inside it. A single name is found at every place of a path.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        if wanted.contains("::") {
            self.path.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        } else {
            self.path.split("::").any(|name| name == wanted)
        }
    }

    /// Whether this is a path into the crate of that name.
    pub(crate) fn is_of_crate(&self, name: &str) -> bool {
        self.path.split_once("::").is_some_and(|(first, _)| first == name)
    }
}

/// All paths in a piece of code. A number with a fraction counts as the name `f64`.
pub(crate) fn uses(code: &str) -> Vec<Use> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if matches!(tokens[at].kind, Kind::Name(_)) {
            at = path(&tokens, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads the path that begins at `at`, and the tree in braces at its end; where to go on.
fn path(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<Use>) -> usize {
    let mut so_far = prefix.to_owned();
    while let Some(Token { line, kind: Kind::Name(name) }) = tokens.get(at) {
        if !so_far.is_empty() {
            so_far.push_str("::");
        }
        so_far.push_str(name);
        let continues = tokens.get(at + 1).is_some_and(|token| token.kind == Kind::Colons);
        match tokens.get(at + 2).map(|token| &token.kind) {
            Some(Kind::Name(_)) if continues => at += 2,
            Some(Kind::Other('{')) if continues => return tree(tokens, at + 3, &so_far, found),
            _ => {
                found.push(Use { line: *line, path: so_far });
                return at + 1;
            }
        }
    }
    at
}

/// Reads the tree behind an opening brace; where to go on.
fn tree(tokens: &[Token], mut at: usize, prefix: &str, found: &mut Vec<Use>) -> usize {
    while let Some(token) = tokens.get(at) {
        at = match token.kind {
            Kind::Name(_) => path(tokens, at, prefix, found),
            Kind::Other('}') => return at + 1,
            _ => at + 1,
        }
    }
    at
}

struct Token {
    line: usize,
    kind: Kind,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Name(String),
    Colons,
    Other(char),
}

fn tokens(code: &str) -> Vec<Token> {
    let chars: Vec<char> = code.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let kind = match chars[at] {
            '\n' => {
                line += 1;
                at += 1;
                continue;
            }
            c if c.is_whitespace() => {
                at += 1;
                continue;
            }
            ':' if chars.get(at + 1) == Some(&':') => {
                at += 2;
                Kind::Colons
            }
            c if c.is_ascii_digit() => {
                at = end_of_number(&chars, at);
                let number: String = chars[start..at].iter().collect();
                let is_hex = number.starts_with("0x");
                let is_float = number.contains('.') || number.ends_with("f32") || number.ends_with("f64");
                if is_float && !is_hex { Kind::Name("f64".to_owned()) } else { Kind::Other('0') }
            }
            c if is_name(c) => {
                while at < chars.len() && is_name(chars[at]) {
                    at += 1;
                }
                Kind::Name(chars[start..at].iter().collect())
            }
            c => {
                at += 1;
                Kind::Other(c)
            }
        };
        tokens.push(Token { line, kind });
    }
    tokens
}

/// Behind a number. A point belongs to it if a digit follows, unless the number is a field (`pair.0.1`) itself.
fn end_of_number(chars: &[char], start: usize) -> usize {
    let digits = |mut at: usize| {
        while at < chars.len() && is_name(chars[at]) {
            at += 1;
        }
        at
    };
    let end = digits(start);
    let is_field = start > 0 && chars[start - 1] == '.' && (start < 2 || chars[start - 2] != '.');
    let has_fraction = chars.get(end) == Some(&'.') && chars.get(end + 1).is_some_and(char::is_ascii_digit);
    if has_fraction && !is_field { digits(end + 1) } else { end }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match end_of_comment(&chars, at) {
            Some(end) => end,
            None => end_of_literal(&chars, at),
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Behind the comment that begins at `at`, if one does. Block comments nest.
fn end_of_comment(chars: &[char], at: usize) -> Option<usize> {
    let starts = |at: usize, mark: [char; 2]| chars.get(at..at + 2) == Some(&mark[..]);
    if starts(at, ['/', '/']) {
        return Some((at..chars.len()).find(|end| chars[*end] == '\n').unwrap_or(chars.len()));
    }
    if !starts(at, ['/', '*']) {
        return None;
    }
    let (mut depth, mut end) = (0, at);
    while end < chars.len() {
        if starts(end, ['/', '*']) {
            (depth, end) = (depth + 1, end + 2);
        } else if starts(end, ['*', '/']) {
            (depth, end) = (depth - 1, end + 2);
            if depth == 0 {
                return Some(end);
            }
        } else {
            end += 1;
        }
    }
    Some(end)
}

/// Behind the string or character literal that begins at `at`; `at` itself if none does.
fn end_of_literal(chars: &[char], at: usize) -> usize {
    match chars[at] {
        '"' => end_of_quotes(chars, at, '"'),
        // A tick begins a character if it is closed behind one character or one escape; else it is a lifetime.
        '\'' if chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'') => {
            end_of_quotes(chars, at, '\'')
        }
        'r' if at == 0 || !is_name(chars[at - 1]) || is_raw_prefix(chars, at) => end_of_raw_string(chars, at),
        _ => at,
    }
}

fn end_of_quotes(chars: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

/// Whether the `r` at `at` is the second letter of `br` or `cr`.
fn is_raw_prefix(chars: &[char], at: usize) -> bool {
    matches!(chars[at - 1], 'b' | 'c') && (at == 1 || !is_name(chars[at - 2]))
}

fn end_of_raw_string(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let body = at + 1 + hashes;
    if chars.get(body) != Some(&'"') {
        return at; // A raw name (`r#type`), or a name that begins with r.
    }
    let is_end = |end: &usize| {
        chars[*end] == '"'
            && chars[*end + 1..].len() >= hashes
            && chars[*end + 1..][..hashes].iter().all(|c| *c == '#')
    };
    (body + 1..chars.len()).find(is_end).map_or(chars.len(), |end| end + 1 + hashes)
}

/// Blanks every item under `#[cfg(test)]` or `#[cfg(all(test, ...))]`; also the names of modules that lie elsewhere.
fn without_tests(code: &str) -> (String, Vec<String>) {
    if code.contains("#![cfg(test)]") {
        return (blank(code), Vec::new());
    }
    let mut product = code.to_owned();
    let mut modules = Vec::new();
    let mut from = 0;
    while let Some(start) = next_test_attribute(&product, from) {
        let end = end_of_item(product.as_bytes(), start);
        let item = &product[start..end];
        if let Some(name) = item.strip_suffix(';').and_then(|item| item.rsplit_once("mod ")) {
            modules.push(name.1.trim().to_owned());
        }
        let blanked = blank(item);
        product.replace_range(start..end, &blanked);
        from = start + blanked.len();
    }
    (product, modules)
}

fn next_test_attribute(code: &str, from: usize) -> Option<usize> {
    let of = |mark: &str| code[from..].find(mark).map(|at| from + at);
    [of("#[cfg(test)]"), of("#[cfg(all(test")].into_iter().flatten().min()
}

/// Behind the item whose first attribute begins at `start`: its attributes, then up to `;` or through its braces.
fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut at = start;
    while code.get(at) == Some(&b'#') {
        at = end_of_brackets(code, at + 1);
        at += code[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
    while at < code.len() {
        match code[at] {
            b';' => return at + 1,
            b'{' => return end_of_brackets(code, at),
            b'(' | b'[' => at = end_of_brackets(code, at),
            _ => at += 1,
        }
    }
    at
}

/// Behind the bracket that closes the one at `at`.
fn end_of_brackets(code: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.iter().enumerate().skip(at) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    code.len()
}

/// The same lines with nothing on them.
fn blank(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

#[test]
fn comments_and_literals_are_no_code_and_keep_their_lines() {
    let text =
        "a /* b /* c */\n d */ e // f\n\"g \\\" // h\" i 'j' 'k '\\'' l r#\"m \" \n\"# br\"n\" r#type 'o: x";
    let source = Source::new("x.rs", text.to_owned());
    let names: Vec<String> = uses(&source.code).into_iter().map(|found| found.path).collect();
    assert_eq!(names, ["a", "e", "i", "k", "l", "b", "r", "type", "o", "x"]);
    assert_eq!(source.code.lines().count(), text.lines().count());
}

#[test]
fn an_import_in_braces_is_found_like_one_without() {
    let code = "use std::{\n  fmt, fs,\n  io::{self, Read}};\nlet a = std::fs::read(b.0.1, 0..1, 2.5);";
    let found: Vec<(usize, String)> = uses(code).into_iter().map(|found| (found.line, found.path)).collect();
    let paths: Vec<&str> = found.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "use",
            "std::fmt",
            "std::fs",
            "std::io::self",
            "std::io::Read",
            "let",
            "a",
            "std::fs::read",
            "b",
            "f64"
        ]
    );
    assert_eq!(found[2].0, 2);
    assert_eq!(found[7].0, 4);
    let fs: Vec<usize> =
        uses(code).iter().filter(|found| found.is("std::fs")).map(|found| found.line).collect();
    assert_eq!(fs, [2, 4]);
}

#[test]
fn items_that_only_exist_in_tests_are_no_product() {
    let code = "fn a() {}\n#[cfg(test)]\n#[path = \"t\"]\nmod tests;\n#[cfg(all(test, unix))]\nmod more {\n fn b() {}\n\
                }\n#[cfg(test)]\nfn c(d: [u8; 4]) { e() }\n#[cfg(any(test, unix))]\nfn f() {}";
    let source = Source::new("src/x.rs", code.to_owned());
    assert_eq!(source.test_modules, ["tests"]);
    assert_eq!(source.module_dir(), "src/x");
    let names: Vec<Use> = uses(&source.product);
    assert!(names.iter().any(|found| found.path == "a" && found.line == 1));
    assert!(names.iter().any(|found| found.path == "f" && found.line == 12));
    assert!(!names.iter().any(|found| ["tests", "b", "c", "e"].contains(&found.path.as_str())));
}
