//! The examples of the facade, built as the tests are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The executable of an example.
pub(crate) fn example(name: &str) -> &'static Path {
    static EXAMPLES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let examples = EXAMPLES.get_or_init(build);
    examples.get(name).unwrap_or_else(|| panic!("no example {name:?} among {:?}", examples.keys()))
}

/// Names and executables of all examples. Profile and choice of packages are those of `cargo test --workspace`, which
/// has built them already.
fn build() -> BTreeMap<String, PathBuf> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--profile", "test", "--workspace", "--examples", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = built.stdout.split(|byte| *byte == b'\n');
    messages
        .filter_map(|message| serde_json::from_slice::<serde_json::Value>(message).ok())
        .filter(|message| message["target"]["kind"][0] == "example")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?;
            Some((name.to_string(), message["executable"].as_str()?.into()))
        })
        .collect()
}
