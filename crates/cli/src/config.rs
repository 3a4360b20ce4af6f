//! `config`: the catalogue of settings.

use crate::args::ConfigVerb;
use crate::failure::Failure;
use crate::report::{Column, Report, column, wide};
use crate::settings::{self, Scope, catalogue};
use serde_json::json;

const COLUMNS: &[Column] =
    &[column("setting"), column("scope"), column("default"), column("bounds"), wide("meaning")];

pub(crate) fn run(verb: ConfigVerb) -> Result<Report, Failure> {
    let scope = |scope| match scope {
        Scope::Log => "log",
        Scope::Topic => "topic",
        Scope::Node => "node",
    };
    match verb {
        ConfigVerb::List => {
            let row = |known: &settings::Known| {
                vec![
                    json!(known.key),
                    json!(scope(known.scope)),
                    json!(known.default),
                    json!(known.bounds),
                    json!(known.what),
                ]
            };
            Ok(Report::table("settings", COLUMNS, catalogue().map(row).collect()))
        }
        ConfigVerb::Explain { key } => {
            let known = settings::known(&key).ok_or_else(|| settings::unknown(&key, None))?;
            let set_by = match known.scope {
                Scope::Log => format!("-X {}=VALUE, for this run", known.key),
                Scope::Node => format!("serve -X {}=VALUE", known.key),
                Scope::Topic => format!("topic create --config {}=VALUE", known.key),
            };
            Ok(Report::fields()
                .field("setting", known.key)
                .field("scope", scope(known.scope))
                .field("default", known.default)
                .field("bounds", known.bounds)
                .field("meaning", known.what)
                .field("costs", known.costs)
                .field("set_by", set_by))
        }
    }
}
