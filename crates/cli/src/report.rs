//! What a verb answers: some fields and at most one table, written in the format that was asked for.
//!
//! ```text
//!   text, wide   table, then fields           json, yaml   one object: the fields, and the table as a list of objects
//!   tsv          the rows, without a header   jsonl        a row per line; without a table the one object
//! ```

use crate::args::Color;
use crate::failure::Failure;
use crate::yaml;
use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table for people
    Text,
    /// A table with all columns
    Wide,
    /// One object
    Json,
    /// One object per row
    Jsonl,
    /// Rows with tabs, without a header; `-` for empty
    Tsv,
    /// As json, in YAML
    Yaml,
    /// Show how formats and records are written
    Help,
}

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

static COLOR: AtomicBool = AtomicBool::new(false);

/// Whether tables have a bold header.
pub(crate) fn set_color(color: Color) {
    let on = match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && std::io::stdout().is_terminal()
        }
    };
    COLOR.store(on, Ordering::Relaxed);
}

/// One column: its name in JSON, in capitals in a table; `wide` ones are left out of `text`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    wide: bool,
}

pub(crate) const fn column(name: &'static str) -> Column {
    Column { name, wide: false }
}

pub(crate) const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}

#[derive(Debug)]
struct Rows {
    name: &'static str,
    columns: &'static [Column],
    rows: Vec<Vec<Value>>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    fields: Vec<(&'static str, Value)>,
    rows: Option<Rows>,
    /// For programs only: people are shown a note about it.
    details: Vec<(&'static str, Value)>,
    /// Shown to people only.
    notes: Vec<String>,
    silent: bool,
    pub(crate) exit: u8,
}

impl Report {
    /// The verb has written everything itself.
    pub(crate) fn nothing() -> Report {
        Report { silent: true, ..Report::default() }
    }

    /// A table; `name` is its key in JSON.
    pub(crate) fn table(name: &'static str, columns: &'static [Column], rows: Vec<Vec<Value>>) -> Report {
        debug_assert!(rows.iter().all(|row| row.len() == columns.len()));
        Report { rows: Some(Rows { name, columns, rows }), ..Report::default() }
    }

    pub(crate) fn fields() -> Report {
        Report::default()
    }

    #[must_use]
    pub(crate) fn field(mut self, name: &'static str, value: impl Into<Value>) -> Report {
        self.fields.push((name, value.into()));
        self
    }

    /// A field that programs read, and that people are told by a note, if there is something to tell.
    #[must_use]
    pub(crate) fn detail(mut self, name: &'static str, value: impl Into<Value>) -> Report {
        self.details.push((name, value.into()));
        self
    }

    /// A sentence for people.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Report {
        self.notes.push(note.into());
        self
    }

    #[must_use]
    pub(crate) fn exit(mut self, exit: u8) -> Report {
        self.exit = exit;
        self
    }

    pub(crate) fn print(&self, format: Format) -> Result<(), Failure> {
        if self.silent {
            return Ok(());
        }
        let text = self.render(format);
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
    }

    fn render(&self, format: Format) -> String {
        match format {
            Format::Text | Format::Help => self.text(false),
            Format::Wide => self.text(true),
            Format::Json => format!("{}\n", self.object()),
            Format::Yaml => yaml::of(&self.object()),
            Format::Jsonl => match &self.rows {
                Some(rows) => rows.objects().map(|row| format!("{row}\n")).collect(),
                None => format!("{}\n", self.object()),
            },
            Format::Tsv => match &self.rows {
                Some(rows) => rows.rows.iter().map(|row| tsv_row(row)).collect(),
                None => {
                    self.fields.iter().map(|(_, value)| tsv_cell(value)).collect::<Vec<_>>().join("\t") + "\n"
                }
            },
        }
    }

    fn object(&self) -> Value {
        let fields = self.fields.iter().chain(&self.details);
        let mut map: Map<String, Value> =
            fields.map(|(name, value)| (name.to_string(), value.clone())).collect();
        if let Some(rows) = &self.rows {
            map.insert(rows.name.to_string(), Value::Array(rows.objects().collect()));
        }
        Value::Object(map)
    }

    fn text(&self, all: bool) -> String {
        let mut text = String::new();
        if let Some(rows) = &self.rows {
            text.push_str(&rows.text(all));
        }
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.fields {
            text.push_str(&format!("{:width$}  {}\n", name.replace('_', " "), cell(value)));
        }
        for note in &self.notes {
            text.push_str(&format!("{note}\n"));
        }
        text
    }
}

impl Rows {
    fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.rows.iter().map(|row| {
            let pairs = self.columns.iter().zip(row);
            Value::Object(pairs.map(|(column, value)| (column.name.to_string(), value.clone())).collect())
        })
    }

    fn text(&self, all: bool) -> String {
        if self.rows.is_empty() {
            return format!("no {}\n", self.name.replace('_', " "));
        }
        let shown = || self.columns.iter().enumerate().filter(|(_, column)| all || !column.wide);
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let header = |column: &Column| Cell::new(column.name.to_uppercase().replace('_', "-"));
        table.set_header(shown().map(|(_, column)| header(column)));
        for row in &self.rows {
            table.add_row(shown().map(|(index, _)| {
                let value = &row[index];
                let cell = Cell::new(cell(value));
                if value.is_number() { cell.set_alignment(CellAlignment::Right) } else { cell }
            }));
        }
        let mut text = String::new();
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for (nth, line) in table.lines().enumerate() {
            let line = line.trim_end();
            match nth == 0 && COLOR.load(Ordering::Relaxed) {
                true => text.push_str(&format!("{BOLD}{line}{PLAIN}\n")),
                false => text.push_str(&format!("{line}\n")),
            }
        }
        text
    }
}

/// One line of a table with tabs.
pub(crate) fn tsv_row(row: &[Value]) -> String {
    row.iter().map(tsv_cell).collect::<Vec<_>>().join("\t") + "\n"
}

fn tsv_cell(value: &Value) -> String {
    let text =
        cell(value).replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
    if text.is_empty() { "-".to_string() } else { text }
}

/// A value for people; nothing and an empty list are `-`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_string(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            map.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[Column] = &[column("topic"), wide("id"), column("lag_seconds")];

    fn report() -> Report {
        let rows = vec![vec![json!("a\tb"), json!(1), json!(null)], vec![json!(""), json!(2), json!(1.5)]];
        let report = Report::table("topics", COLUMNS, rows).field("total_lag", 7);
        report.detail("owners", json!(["ada"])).note("for people")
    }

    #[test]
    fn tsv_has_no_header_stable_columns_and_a_dash_for_nothing() {
        assert_eq!(report().render(Format::Tsv), "a\\tb\t1\t-\n-\t2\t1.5\n");
        assert_eq!(Report::fields().field("a", 1).field("b", "x").render(Format::Tsv), "1\tx\n");
    }

    #[test]
    fn json_is_one_object_and_jsonl_one_per_row() {
        let object: Value = serde_json::from_str(&report().render(Format::Json)).expect("it is JSON");
        assert_eq!(object["total_lag"], 7);
        assert_eq!(object["topics"][1], json!({"topic": "", "id": 2, "lag_seconds": 1.5}));
        assert_eq!(object["owners"], json!(["ada"]));
        assert_eq!(report().render(Format::Jsonl).lines().count(), 2);
        assert_eq!(Report::fields().field("a", 1).render(Format::Jsonl), "{\"a\":1}\n");
    }

    #[test]
    fn text_leaves_wide_columns_out() {
        let (text, wide) = (report().render(Format::Text), report().render(Format::Wide));
        assert!(text.contains("LAG-SECONDS") && !text.contains("ID"), "{text}");
        assert!(wide.contains("ID") && wide.contains("for people"), "{wide}");
        assert!(!wide.contains("ada"), "{wide}");
        assert_eq!(Report::table("topics", COLUMNS, Vec::new()).render(Format::Text), "no topics\n");
    }
}
