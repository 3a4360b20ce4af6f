//! Structure as tests: which crate may use which, what the core must not know, where unsafe code and files may be
//! touched, and a few habits that are easier to keep when a machine looks.
//!
//! Each test prints every offender with its place. A rule that is in the way is changed here, in a commit that says
//! why.
//!
//! What this is not: a proof. The scanner (tidy/source.rs) reads names; it doesn't expand macros or follow aliases.
//! The compiler (`forbid(unsafe_code)`), clippy and cargo-deny (deny.toml) hold the same lines with other means.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/source.rs"]
mod source;

use house::{House, Package};
use source::{Source, uses};
use std::path::{Component, Path};
use std::sync::LazyLock;

static HOUSE: LazyLock<House> = LazyLock::new(House::read);

/// Which of our crates a crate may use. Adding to this table is a change of the architecture.
const EDGES: [(&str, &[&str]); 11] = [
    ("exactlog-core", &[]),
    ("exactlog-storage", &["exactlog-core"]),
    ("exactlog", &["exactlog-core", "exactlog-storage"]),
    ("exactlog-sim", &["exactlog-core", "exactlog-storage", "exactlog", "exactlog-wire"]),
    ("exactlog-flow", &["exactlog"]),
    ("exactlog-sql", &["exactlog"]),
    ("exactlog-wire", &[]),
    ("exactlog-broker", &["exactlog", "exactlog-wire"]),
    ("exactlog-client", &["exactlog", "exactlog-wire"]),
    (
        "exactlog-testkit",
        &["exactlog", "exactlog-broker", "exactlog-sim", "exactlog-wire", "exactlog-client"],
    ),
    ("exactlog-cli", &["exactlog", "exactlog-flow", "exactlog-broker", "exactlog-client", "exactlog-wire"]),
];

/// The packages that may use everything, and that nothing may use.
const AROUND_THE_HOUSE: [&str; 2] = ["exactlog-tests", "exactlog-benches"];

/// What every crate may use in its tests besides: the simulated disk and the obvious model.
const FOR_TESTS: &str = "exactlog-sim";

/// What the core may use from outside. Codecs are functions of their arguments, too; `apply` calls none.
const CORE_DEPENDENCIES: [&str; 9] =
    ["bytes", "crc32c", "flate2", "lz4_flex", "ruzstd", "serde", "smallvec", "snap", "thiserror"];

/// A map with an order of its own that nobody sees: its type has no way to go through it.
const UNORDERED: &str = "crates/core/src/state/mark_map.rs";

/// What would make decisions, or messages, depend on something other than their arguments.
const IMPURE: [&str; 20] = [
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time",
    "Instant",
    "SystemTime",
    "rand",
    "HashMap",
    "HashSet",
    "f32",
    "f64",
    "print",
    "println",
    "eprint",
    "eprintln",
    "stdin",
    "stdout",
];

/// What touches files, and is therefore the business of storage's disk modules.
const FILES: [&str; 6] = ["std::fs", "std::os", "tokio::fs", "rustix::fs", "rustix::io", "memmap2"];

/// Where the unsafe code is.
const MAPPED: &str = "crates/storage/src/mapped.rs";

/// Beginning of the paths of the modules that implement storage's disk.
const DISK: &str = "crates/storage/src/disk";

/// Beginning of the paths of the modules that encode checkpoints.
const CHECKPOINT: &str = "crates/storage/src/checkpoint";

/// Dependencies that have their place: who must have them. The others must not, except as the third column says.
const PLACES: [(&str, &[&str], &[&str]); 17] = [
    (
        "tokio",
        &["exactlog", "exactlog-flow", "exactlog-broker", "exactlog-client", "exactlog-cli", "exactlog-sql"],
        &["exactlog-tests", "exactlog-testkit"],
    ),
    (
        "bytes",
        &[
            "exactlog-core",
            "exactlog-storage",
            "exactlog",
            "exactlog-flow",
            "exactlog-sql",
            "exactlog-sim",
            "exactlog-wire",
            "exactlog-broker",
            "exactlog-client",
        ],
        &[],
    ),
    ("crc32fast", &["exactlog-storage"], &["exactlog-sim"]),
    ("memmap2", &["exactlog-storage"], &[]),
    ("bincode", &["exactlog-storage"], &[]),
    (
        "serde",
        &["exactlog-core", "exactlog-storage", "exactlog", "exactlog-flow"],
        // The order flow of the examples, on the log of a node.
        &["exactlog-sim", "exactlog-tests"],
    ),
    (
        "parking_lot",
        &["exactlog-storage", "exactlog", "exactlog-flow", "exactlog-broker"],
        &["exactlog-sim", "exactlog-testkit"],
    ),
    ("rustc-hash", &["exactlog-flow"], &[]),
    ("rustix", &["exactlog-storage", "exactlog", "exactlog-cli"], &[]),
    ("clap", &["exactlog-cli"], &[]),
    ("comfy-table", &["exactlog-cli"], &[]),
    ("jiff", &["exactlog-flow", "exactlog-cli"], &[]),
    ("regex", &["exactlog-cli", "exactlog-broker"], &[]),
    // Optional, and off by default.
    ("ureq", &["exactlog-flow"], &[]),
    ("opentelemetry-otlp", &["exactlog-flow"], &[]),
    // Optional, and off by default: SQLite is C.
    ("rusqlite", &["exactlog-sql"], &[]),
    ("tokio-postgres", &["exactlog-sql"], &[]),
];

/// Dependencies of tests and benchmarks that have their place, and who must have them.
const DEV_PLACES: [(&str, &[&str]); 2] = [
    (
        "proptest",
        &[
            "exactlog-core",
            "exactlog-storage",
            "exactlog",
            "exactlog-flow",
            "exactlog-sim",
            "exactlog-wire",
            "exactlog-broker",
        ],
    ),
    ("criterion", &["exactlog-benches"]),
];

const FILE_BYTES_MAX: u64 = 1 << 20;
const LINE_CHARS_MAX: usize = 120;

fn report(rule: &str, mut offenders: Vec<String>) {
    offenders.sort();
    offenders.dedup();
    assert!(offenders.is_empty(), "{rule}:\n  {}\n", offenders.join("\n  "));
}

/// The places in one view of a file where one of the names is used.
fn places(source: &Source, view: &str, names: &[&str]) -> Vec<String> {
    uses(view)
        .iter()
        .filter(|found| names.iter().any(|name| found.is(name)))
        .map(|found| format!("{}:{}: {}", source.path, found.line, found.path))
        .collect()
}

fn manifest(package: &Package) -> String {
    format!("{}/Cargo.toml", package.dir)
}

/// Files in which prose or code is written by hand.
fn is_written(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    let endings = [".rs", ".md", ".toml", ".py", ".sh", ".yml", ".yaml"];
    endings.iter().any(|ending| name.ends_with(ending)) || ["justfile", "Makefile"].contains(&name)
}

#[test]
fn crates_use_only_the_crates_that_the_architecture_lets_them_use() {
    let mut offenders = Vec::new();
    for package in HOUSE.packages.iter().filter(|package| !AROUND_THE_HOUSE.contains(&package.name.as_str()))
    {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
            offenders.push(format!("{}: {} has no line in EDGES", manifest(package), package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is_ours = HOUSE.package(name).is_some();
            let is_allowed = allowed.contains(&name) || (dependency.is_dev && name == FOR_TESTS);
            if is_ours && !is_allowed {
                offenders.push(format!("{}: {} uses {name}", manifest(package), package.name));
            }
        }
    }
    report("Edges that the architecture doesn't have (EDGES in tests/tidy.rs)", offenders);
}

#[test]
fn the_core_depends_on_nothing_that_could_tell_it_more_than_its_arguments() {
    let core = HOUSE.package("exactlog-core").expect("the core is a member");
    let offenders = core
        .dependencies
        .iter()
        .filter(|dependency| !dependency.is_dev && !CORE_DEPENDENCIES.contains(&dependency.name.as_str()))
        .map(|dependency| format!("{}: {}", manifest(core), dependency.name))
        .collect();
    report("Dependencies that the core may not have", offenders);
}

#[test]
fn the_core_has_no_clock_file_thread_randomness_hash_order_or_float() {
    impure("crates/core/src", "What decides may only know its arguments");
}

#[test]
fn the_protocol_has_no_clock_file_socket_thread_randomness_or_hash_order() {
    impure("crates/wire/src", "What messages are as bytes may only depend on them");
}

fn impure(dir: &str, rule: &str) {
    let offenders = HOUSE.sources_in(dir).flat_map(|source| {
        let found = places(source, &source.product, &IMPURE).into_iter();
        found.filter(|place| source.path != UNORDERED || !place.contains("HashMap"))
    });
    report(rule, offenders.collect());
}

#[test]
fn unsafe_code_stays_in_the_one_module_that_maps_files() {
    let elsewhere = HOUSE.sources.iter().filter(|source| source.path != MAPPED);
    let offenders = elsewhere.flat_map(|source| places(source, &source.code, &["unsafe"])).collect();
    report("Unsafe code belongs into crates/storage/src/mapped.rs", offenders);
}

#[test]
fn every_crate_forbids_unsafe_code_and_storage_denies_it() {
    let mut offenders = Vec::new();
    for package in HOUSE.packages.iter().filter(|package| package.dir.starts_with("crates/")) {
        let level = if package.name == "exactlog-storage" { "deny" } else { "forbid" };
        let wanted = format!("#![{level}(unsafe_code)]");
        for root in &package.roots {
            let has_it =
                HOUSE.sources.iter().any(|source| source.path == *root && source.code.contains(&wanted));
            if !has_it {
                offenders.push(format!("{root}:1: lacks {wanted}"));
            }
        }
    }
    // The exception may be made in the module itself, or where storage declares it, directly above.
    for source in HOUSE.sources.iter().filter(|source| source.path != MAPPED) {
        let lines: Vec<&str> = source.code.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let is_for_mapped = source.path == "crates/storage/src/lib.rs"
                && lines.get(index + 1).is_some_and(|next| next.ends_with("mod mapped;"));
            let is_exception = line.contains("allow(unsafe_code)") || line.contains("expect(unsafe_code)");
            if is_exception && !is_for_mapped {
                offenders.push(format!("{}:{}: {line}", source.path, index + 1));
            }
        }
    }
    report("Crates that don't refuse unsafe code", offenders);
}

#[test]
fn dependencies_that_have_a_place_are_there_and_nowhere_else() {
    let mut offenders = Vec::new();
    let has = |package: &Package, name: &str, is_dev: bool| {
        package.dependencies.iter().any(|found| found.name == name && found.is_dev == is_dev)
    };
    for (name, must, may) in PLACES {
        for package in &HOUSE.packages {
            let has_it = has(package, name, false);
            let wants_it = must.contains(&package.name.as_str());
            if wants_it && !has_it {
                offenders.push(format!("{}: lacks {name}", manifest(package)));
            }
            if has_it && !wants_it && !may.contains(&package.name.as_str()) {
                offenders.push(format!("{}: has {name}", manifest(package)));
            }
        }
    }
    for (name, must) in DEV_PLACES {
        for package in &HOUSE.packages {
            if must.contains(&package.name.as_str()) && !has(package, name, true) {
                offenders.push(format!("{}: lacks {name} for its tests", manifest(package)));
            }
            if has(package, name, false) {
                offenders.push(format!("{}: has {name} outside its tests", manifest(package)));
            }
        }
    }
    report("Dependencies in the wrong place (PLACES and DEV_PLACES in tests/tidy.rs)", offenders);
}

#[test]
fn every_dependency_is_used() {
    let mut offenders = Vec::new();
    for package in &HOUSE.packages {
        let src = format!("{}/src", package.dir);
        for dependency in &package.dependencies {
            let name = dependency.name.replace('-', "_");
            let is_used = |view: &str| uses(view).iter().any(|found| found.is_of_crate(&name));
            let used = if dependency.is_dev {
                HOUSE.sources_in(&package.dir).any(|source| is_used(&source.code))
            } else {
                HOUSE.sources_in(&src).any(|source| is_used(&source.product))
            };
            if !used {
                let kind = if dependency.is_dev { "by its tests" } else { "by what it ships" };
                offenders.push(format!("{}: {} isn't used {kind}", manifest(package), dependency.name));
            }
        }
    }
    report("Dependencies without a use", offenders);
}

#[test]
fn bincode_serves_the_checkpoint_and_nothing_else() {
    // The tests of core write states as checkpoints do, to prove that nothing is lost on the way.
    let shipped = || HOUSE.sources.iter().filter(|source| !source.path.starts_with("crates/core/tests/"));
    let elsewhere = shipped().filter(|source| !source.path.starts_with(CHECKPOINT));
    let offenders = elsewhere.flat_map(|source| places(source, &source.code, &["bincode"])).collect();
    report(
        "bincode is unmaintained and stays in storage's checkpoint module (deny.toml says why)",
        offenders,
    );

    let users: Vec<&str> = shipped()
        .filter(|source| uses(&source.code).iter().any(|found| found.is_of_crate("bincode")))
        .map(|source| source.path.as_str())
        .collect();
    assert!(users.len() <= 1, "one module encodes the checkpoint, not {users:?}");
}

#[test]
fn files_are_touched_by_the_disk_modules_alone() {
    let mut offenders = Vec::new();
    for dir in ["crates/storage/src", "crates/exactlog/src"] {
        let elsewhere = |source: &&Source| source.path != MAPPED && !source.path.starts_with(DISK);
        for source in HOUSE.sources_in(dir).filter(elsewhere) {
            offenders.extend(places(source, &source.product, &FILES));
        }
    }
    report("Only storage's disk modules touch files; the rest goes through the Disk trait", offenders);
}

#[test]
fn no_file_is_large() {
    let mut offenders = Vec::new();
    for file in &HOUSE.files {
        let path = HOUSE.root.join(file);
        let len = path.metadata().unwrap_or_else(|error| panic!("{file}: {error}")).len();
        if len > FILE_BYTES_MAX {
            offenders.push(format!("{file}: {len} bytes"));
        }
    }
    report(&format!("Files of more than {FILE_BYTES_MAX} bytes"), offenders);
}

#[test]
fn nothing_is_left_for_later() {
    // Put together at run time, so that this file isn't an offender itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|parts| parts.concat());
    let mut offenders = Vec::new();
    for file in HOUSE.files.iter().filter(|file| is_written(file)) {
        for (index, line) in HOUSE.text(file).unwrap_or_default().lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric());
            if words.any(|word| marks.iter().any(|mark| mark == word)) {
                offenders.push(format!("{file}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    for source in &HOUSE.sources {
        for (index, line) in source.code.lines().enumerate() {
            if ["todo!", "unimplemented!", "dbg!"].iter().any(|call| line.contains(call)) {
                offenders.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    report("Unfinished work", offenders);
}

#[test]
fn every_rust_file_begins_by_saying_what_it_is() {
    // A mod.rs that only names and re-exports its modules needs no words.
    let only_names = |source: &Source| {
        source.path.ends_with("/mod.rs")
            && source.code.split(';').map(str::trim).all(|item| {
                let item = item.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
                let item = item.trim_start_matches("pub ");
                item.is_empty() || item.starts_with("mod ") || item.starts_with("use ")
            })
    };
    let offenders = HOUSE
        .sources
        .iter()
        .filter(|source| !source.text.starts_with("//! ") && !only_names(source))
        .map(|source| format!("{}:1: doesn't start with //!", source.path))
        .collect();
    report("Files that don't say what they are", offenders);
}

#[test]
fn lines_of_code_fit_beside_each_other() {
    let mut offenders = Vec::new();
    for source in &HOUSE.sources {
        for (index, line) in source.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                offenders.push(format!("{}:{}: {chars} characters", source.path, index + 1));
            }
        }
    }
    report(&format!("Lines of more than {LINE_CHARS_MAX} characters"), offenders);
}

#[test]
fn nothing_refers_to_a_folder_of_the_machine_it_was_written_on() {
    // Put together at run time, so that this file isn't an offender itself.
    let folders = ["work", "home", "root", "Users"].map(|name| format!("/{name}/"));
    let mut offenders = Vec::new();
    for file in HOUSE.files.iter().filter(|file| is_written(file)) {
        for (index, line) in HOUSE.text(file).unwrap_or_default().lines().enumerate() {
            // A folder of the machine stands at the beginning of a word; "https://host/home/" and "../root/" don't. A
            // slash is added at the end of each word so that the bare folder is found as well.
            let words = line.split(|c: char| c.is_whitespace() || "\"'`()[]<>=,;".contains(c));
            let mut words = words.map(|word| format!("{}/", word.trim_end_matches(['.', ':', '/'])));
            if words.any(|word| folders.iter().any(|folder| word.starts_with(folder.as_str()))) {
                offenders.push(format!("{file}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    report("References to a machine", offenders);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut offenders = Vec::new();
    for file in HOUSE.files.iter().filter(|file| file.ends_with(".md")) {
        let text = HOUSE.text(file).unwrap_or_default();
        for link in documents::links(&text) {
            let place = format!("{file}:{}", link.line);
            let target = if link.file.is_empty() { Some(file.clone()) } else { resolve(file, &link.file) };
            let Some(target) = target else {
                offenders.push(format!("{place}: {} leaves the repository", link.file));
                continue;
            };
            let is_dir = HOUSE.files.iter().any(|known| known.starts_with(&format!("{target}/")));
            if !HOUSE.files.contains(&target) && !is_dir && !target.is_empty() {
                offenders.push(format!("{place}: there is no {target}"));
            } else if !link.heading.is_empty() && target.ends_with(".md") {
                let headings = documents::headings(&HOUSE.text(&target).unwrap_or_default());
                if !headings.contains(&link.heading) {
                    offenders.push(format!("{place}: {target} has no heading #{}", link.heading));
                }
            }
        }
    }
    report("Links that lead nowhere", offenders);
}

/// The path below the root that a relative path in a document means; nothing if it leads out of the repository.
fn resolve(document: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for component in Path::new(target).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[test]
fn documents_that_comments_point_to_exist() {
    let mut offenders = Vec::new();
    for source in &HOUSE.sources {
        let comments =
            source.text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"));
        for (index, line) in comments {
            let words = line.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
            for word in words.filter(|word| word.starts_with("docs/")) {
                let document = word.trim_end_matches(['.', '/']);
                if document.ends_with(".md") && !HOUSE.files.iter().any(|file| file == document) {
                    offenders.push(format!("{}:{}: there is no {document}", source.path, index + 1));
                }
            }
        }
    }
    report("Documents that comments point to and that aren't there", offenders);
}

#[test]
fn every_decision_record_is_in_the_list_of_decision_records() {
    const DIR: &str = "docs/adr/";
    const LIST: &str = "docs/adr/README.md";
    let records: Vec<&String> =
        HOUSE.files.iter().filter(|file| file.starts_with(DIR) && *file != LIST).collect();
    let has_list = HOUSE.files.iter().any(|file| file == LIST);
    let list = if has_list { HOUSE.text(LIST).unwrap_or_default() } else { String::new() };
    let listed: Vec<String> =
        documents::links(&list).iter().filter_map(|link| resolve(LIST, &link.file)).collect();
    let offenders = records
        .into_iter()
        .filter(|record| !listed.contains(record))
        .map(|record| format!("{record}: isn't linked from {LIST}"))
        .collect();
    report("Decision records that nobody finds", offenders);
}
