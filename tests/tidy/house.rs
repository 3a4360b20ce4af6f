//! The repository as the structure tests see it: its packages, what they depend on, its files.
//!
//! Everything is read at run time, so a test can't judge an older tree than the one it runs in. Dependencies are what
//! the manifests say (`cargo metadata --no-deps`); the resolved tree is the business of cargo-deny, and reading it
//! without the network would need the crates of every platform.

use crate::source::Source;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) root: PathBuf,
    pub(crate) packages: Vec<Package>,
    /// Every file below the root that git has or would take, with `/` between the parts, sorted.
    pub(crate) files: Vec<String>,
    /// Every Rust file among them.
    pub(crate) sources: Vec<Source>,
}

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder below the root.
    pub(crate) dir: String,
    pub(crate) dependencies: Vec<Dependency>,
    /// The root files of its libraries and programs (not of its tests, examples and benchmarks).
    pub(crate) roots: Vec<String>,
}

/// A line of a manifest.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only for tests, examples and benchmarks.
    pub(crate) is_dev: bool,
}

impl House {
    pub(crate) fn read() -> House {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned();
        let files = files(&root);
        let mut sources: Vec<Source> = files
            .iter()
            .filter(|file| file.ends_with(".rs"))
            .map(|file| Source::new(file, text(&root, file).unwrap_or_else(|| panic!("{file} isn't UTF-8"))))
            .collect();
        mark_test_modules(&mut sources);
        House { packages: packages(&root), files, sources, root }
    }

    /// The text of a file; nothing if it isn't UTF-8.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        text(&self.root, file)
    }

    /// The Rust files below a folder.
    pub(crate) fn sources_in<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = &'a Source> {
        let is_inside = move |path: &str| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        self.sources.iter().filter(move |source| is_inside(&source.path))
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

fn text(root: &Path, file: &str) -> Option<String> {
    let bytes = std::fs::read(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8(bytes).ok()
}

/// A file that is declared by `#[cfg(test)] mod name;` is test code, and so is everything below it.
fn mark_test_modules(sources: &mut [Source]) {
    let tests: Vec<String> = sources
        .iter()
        .flat_map(|source| source.test_modules.iter().map(|name| format!("{}/{name}", source.module_dir())))
        .collect();
    for source in sources {
        let is_test = |module: &String| {
            source
                .path
                .strip_prefix(module.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if tests.iter().any(is_test) {
            source.is_test_only();
        }
    }
}

/// What git has, and what it would take if it were added now. Without git (an unpacked archive): every file that isn't
/// hidden and isn't built.
fn files(root: &Path) -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_terminator('\0')
            // Git still lists a file that was deleted and not yet committed, and a link to another repository.
            .filter(|file| root.join(file).is_file())
            .map(str::to_owned)
            .collect(),
        _ => {
            let mut found = Vec::new();
            walk(root, "", &mut found);
            found
        }
    };
    files.sort();
    files.dedup();
    assert!(files.iter().any(|file| file == "tests/tidy.rs"), "the list of files lacks this test: {files:?}");
    files
}

fn walk(root: &Path, dir: &str, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(root.join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("{dir}: {error}"));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.path().is_dir() {
            walk(root, &path, found);
        } else {
            found.push(path);
        }
    }
}

fn packages(root: &Path) -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .expect("cargo, which runs this test, can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata gives JSON");
    // Cargo reports real paths; the root may have been reached through a link.
    let root = root.canonicalize().expect("the root exists");
    let inside = |path: &Value| {
        let path = Path::new(string(path)).canonicalize().expect("cargo names files that exist");
        path.strip_prefix(&root).expect("members lie below the root").to_string_lossy().replace('\\', "/")
    };
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: string(&package["name"]).to_owned(),
            dir: inside(&package["manifest_path"]).trim_end_matches("/Cargo.toml").to_owned(),
            dependencies: list(&package["dependencies"]).iter().map(dependency).collect(),
            roots: list(&package["targets"])
                .iter()
                .filter(|target| list(&target["kind"]).iter().any(|kind| kind == "lib" || kind == "bin"))
                .map(|target| inside(&target["src_path"]))
                .collect(),
        })
        .collect()
}

fn dependency(value: &Value) -> Dependency {
    Dependency { name: string(&value["name"]).to_owned(), is_dev: value["kind"] == "dev" }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("cargo metadata has {value} instead of a string"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("cargo metadata has {value} instead of a list"))
}
