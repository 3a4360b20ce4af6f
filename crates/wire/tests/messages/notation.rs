//! That what is written down can be a message: the notation itself can't refuse it.

use crate::kinds;
use exactlog_wire::messages::APIS;
use exactlog_wire::schema::{Field, Shape};

fn structures(shape: &Shape, see: &mut impl FnMut(&str, &[Field])) {
    match shape {
        Shape::Array(inner) | Shape::Nullable(inner) => structures(inner, see),
        Shape::Struct { name, fields } => {
            see(name, fields);
            fields.iter().for_each(|field| structures(&field.shape, see));
        }
        _ => {}
    }
}

#[test]
fn tags_ascend_and_belong_to_flexible_versions() {
    for api in APIS {
        for shape in [(api.request)(), (api.response)()] {
            structures(&shape, &mut |name, fields| {
                let tagged: Vec<_> = fields.iter().filter(|field| field.tag.is_some()).collect();
                assert!(tagged.windows(2).all(|two| two[0].tag < two[1].tag), "{} {name}", api.name);
                for field in tagged {
                    assert!(field.versions.from >= api.flexible, "{} {name}.{}", api.name, field.name);
                }
            });
        }
    }
}

#[test]
fn fields_are_in_some_version_that_is_known() {
    for api in APIS {
        let known = api.versions;
        assert!(known.from <= known.to, "{}", api.name);
        for shape in [(api.request)(), (api.response)()] {
            structures(&shape, &mut |name, fields| {
                for field in fields {
                    let is_known = (known.from..=known.to).any(|version| field.versions.has(version));
                    assert!(is_known, "{} {name}.{}", api.name, field.name);
                }
            });
        }
    }
}

/// As docs/PROTOCOL.md has it.
fn table() -> String {
    let mut table = String::from("| key | API | versions | flexible from |\n|---:|---|---|---|\n");
    for api in APIS {
        let exactlog_wire::schema::Versions { from, to } = api.versions;
        let flexible = if api.flexible > to { "–".to_owned() } else { api.flexible.to_string() };
        table += &format!("| {} | {} | {from} to {to} | {flexible} |\n", api.key, api.name);
    }
    table
}

#[test]
fn the_page_of_the_protocol_has_these_apis() {
    let page = include_str!("../../../../docs/PROTOCOL.md");
    assert!(page.ends_with(&table()), "docs/PROTOCOL.md ends otherwise than with\n\n{}", table());
}

#[test]
fn apis_ascend_and_each_has_several_kinds() {
    assert!(APIS.windows(2).all(|two| two[0].key < two[1].key));
    assert!(APIS.iter().all(|api| kinds().filter(|kind| kind.api.key == api.key).count() >= 2));
}
