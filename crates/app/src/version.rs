//! Which Tidemill this is.
//!
//! The commit is known if the build was told (`TIDEMILL_COMMIT`, as `make dist` does); nothing asks
//! git, so a source archive builds alike.

use std::sync::OnceLock;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, if the build was told.
pub const COMMIT: Option<&str> = match option_env!("TIDEMILL_COMMIT") {
    Some(commit) if !commit.is_empty() => Some(commit),
    _ => None,
};

/// Returns what `--version` says: `0.1.0`, or `0.1.0 (114c29f)`.
pub fn line() -> &'static str {
    static LINE: OnceLock<String> = OnceLock::new();
    LINE.get_or_init(|| match COMMIT {
        Some(commit) => format!("{VERSION} ({commit})"),
        None => VERSION.to_owned(),
    })
}
