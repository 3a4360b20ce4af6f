//! A regular expression that members subscribe by (`SubscribedTopicRegex`), and the topics that it fits.
//!
//! Kafka takes the syntax of RE2/J, and so do we, as far as `regex` has it: the same but for what only RE2 has (`\C`,
//! and sets in brackets that aren't set off by brackets of their own).
//!
//! Invariants
//!   * the whole name of a topic has to fit, not a part of it
//!   * matching takes time linear in the name, compiling no more memory than [`SIZE_MAX`]

use super::Topics;
use crate::code::{INVALID_REGULAR_EXPRESSION, Refused};
use regex::{Regex, RegexBuilder};
use std::collections::BTreeSet;

/// Most memory of a compiled expression, in bytes.
const SIZE_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Names of those topics that it fits.
    pub(super) topics: BTreeSet<String>,
}

impl Pattern {
    /// # Errors
    /// INVALID_REGULAR_EXPRESSION.
    pub(super) fn new(text: &str, topics: &Topics) -> Result<Self, Refused> {
        let compile = |text: &str| RegexBuilder::new(text).size_limit(SIZE_MAX).build();
        let unquoted = unquote(text);
        // Compiled alone first: what isn't whole could be made whole by what is put around it.
        let whole = |_| compile(&format!("\\A(?:{unquoted})\\z"));
        // With the flag x it may end in a comment.
        let commented = |_| compile(&format!("\\A(?:{unquoted}\n)\\z"));
        let compiled = compile(&unquoted).and_then(|alone| whole(alone).or_else(commented));
        let regex = compiled.map_err(|error| {
            let why = format!("SubscribedTopicRegex {text:?} isn't a regular expression: {error}");
            (INVALID_REGULAR_EXPRESSION, why)
        })?;
        let mut pattern = Pattern { regex, topics: BTreeSet::new() };
        pattern.resolve(topics);
        Ok(pattern)
    }

    /// Finds the topics that it fits.
    pub(super) fn resolve(&mut self, topics: &Topics) {
        let fitting = topics.by_name.keys().filter(|name| self.regex.is_match(name));
        self.topics = fitting.cloned().collect();
    }
}

/// Takes what stands between `\Q` and `\E` literally: RE2 has that, `regex` doesn't.
fn unquote(text: &str) -> String {
    let (mut unquoted, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        // A backslash, and what it escapes.
        let end = rest[at + 1..].chars().next().map_or(rest.len(), |escaped| at + 1 + escaped.len_utf8());
        if rest[at..end] != *"\\Q" {
            unquoted.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let (literal, behind) = rest[end..].split_once("\\E").unwrap_or((&rest[end..], ""));
        unquoted.push_str(&rest[..at]);
        unquoted.push_str(&regex::escape(literal));
        rest = behind;
    }
    unquoted + rest
}
