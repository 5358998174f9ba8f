//! Every dependency may be shipped under the terms that this project accepts.
//! Asks `cargo metadata` for all packages of the platforms named below, also build and test ones,
//! and evaluates each licence expression (SPDX, and the older `MIT/Apache-2.0`) against a list.
//! It does not read licence texts: that a package says what it is, is believed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences whose terms we accept, for code that is linked in and for code that only tests use.
const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Platforms whose dependencies are looked at: the ones that are built and tested.
const PLATFORMS: &[&str] =
    &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-unknown-linux-musl"];

#[test]
fn every_dependency_has_an_accepted_licence() {
    let mut packages = BTreeSet::new();
    for platform in PLATFORMS {
        packages.extend(packages_of(platform));
    }
    assert!(packages.len() > 50, "only {} packages: is the list complete?", packages.len());
    let offenders: Vec<_> = packages
        .iter()
        .filter(|(_, licence)| !is_accepted(licence))
        .map(|(package, licence)| format!("{package}: {licence:?}"))
        .collect();
    assert!(
        offenders.is_empty(),
        "\nno accepted licence; replace the package, or add the licence to tests/licences.rs:\n{}",
        offenders.join("\n")
    );
}

/// Name with version, and licence expression, of every package that `platform` resolves to.
fn packages_of(platform: &str) -> BTreeSet<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", platform])
        .current_dir(root)
        .output()
        .expect("cargo runs, because it runs this test");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata for {platform}: {complaint}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resolved: BTreeSet<_> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("metadata without --no-deps has the resolved graph")
        .iter()
        .map(|node| text(&node["id"]))
        .collect();
    metadata["packages"]
        .as_array()
        .expect("metadata lists packages")
        .iter()
        .filter(|package| resolved.contains(&text(&package["id"])))
        .map(|package| {
            let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
            (name, text(&package["license"]))
        })
        .collect()
}

/// Whether the accepted licences satisfy `expression`. What cannot be read is not accepted.
fn is_accepted(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut satisfied = both(rest)?;
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        satisfied |= both(rest)?;
    }
    Some(satisfied)
}

fn both(rest: &mut &[&str]) -> Option<bool> {
    let mut satisfied = one(rest)?;
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        satisfied &= one(rest)?;
    }
    Some(satisfied)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    match *first {
        "(" => {
            let satisfied = either(rest)?;
            let (close, after) = rest.split_first()?;
            *rest = after;
            (*close == ")").then_some(satisfied)
        }
        ")" | "AND" | "OR" | "WITH" => None,
        licence => match **rest {
            ["WITH", exception, ..] => {
                *rest = &rest[2..];
                Some(ACCEPTED.contains(&format!("{licence} WITH {exception}").as_str()))
            }
            _ => Some(ACCEPTED.contains(&licence)),
        },
    }
}

#[test]
fn licence_expressions_are_read_as_written() {
    let accepted = [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-2.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "GPL-2.0 AND GPL-3.0 OR ISC",
    ];
    let refused = [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "GPL-3.0 AND (MIT OR ISC)",
        "GPL-2.0 WITH Classpath-exception-2.0",
        "MIT WITH something",
        "MIT OR",
        "(MIT",
        "MIT ISC",
        "MIT)",
    ];
    for expression in accepted {
        assert!(is_accepted(expression), "{expression:?} should be accepted");
    }
    for expression in refused {
        assert!(!is_accepted(expression), "{expression:?} should be refused");
    }
}
