//! Values that come from elsewhere: `${NAME}` from the environment, `file:/path` from a file.
//!
//! What they stand for is never printed: errors repeat what was written, and a [`Secret`] shows
//! itself as `***`.

use std::{fmt, fs::File, io::Read};

use super::error::Problem;

/// The largest file a secret may be read from.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// A password or token. It shows itself as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// Returns what a text stands for: `${NAME}` from the environment, `file:/path` from a file.
    ///
    /// # Errors
    /// If that cannot be read or is empty; the text does not show the value.
    pub fn read(text: &str, environment: &Environment<'_>) -> Result<Secret, String> {
        match secret(text, environment) {
            Ok(secret) if secret.0.is_empty() => Err(format!("{text:?} is empty")),
            Ok(secret) => Ok(secret),
            Err(problem) => Err(format!("{}; {}", problem.text, problem.remedy)),
        }
    }

    /// Returns the value itself, for the one who sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Looks up an environment variable.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces each `${NAME}`; `$${` stands for `${` itself.
pub(super) fn expand(text: &str, environment: &Environment<'_>) -> Result<String, Problem> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &from[2..];
            continue;
        }
        expanded.push_str(before);
        let Some((name, behind)) = from[2..].split_once('}') else {
            let remedy = "close it with \"}\", or write \"$${\" for the characters themselves";
            return Err(Problem::new("has a \"${\" without an end", remedy));
        };
        expanded.push_str(&look_up(name, environment)?);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn look_up(name: &str, environment: &Environment<'_>) -> Result<String, Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        let remedy = "names are letters, digits and _, such as \"${PASSWORD}\"";
        return Err(Problem::new("has a \"${...}\" that names no environment variable", remedy));
    }
    environment(name).ok_or_else(|| {
        let text = format!("needs the environment variable \"{name}\", which is not set");
        Problem::new(text, "set it, or write the value")
    })
}

/// Returns what a secret stands for: the text, expanded, or the content of the file it names.
pub(super) fn secret(text: &str, environment: &Environment<'_>) -> Result<Secret, Problem> {
    let expanded = expand(text, environment)?;
    // Only a written `file:` counts: a password that happens to begin so stays a password.
    if !text.starts_with("file:") {
        return Ok(Secret(expanded));
    }
    let path = &expanded["file:".len()..];
    // The path is shown as written: parts of it may come from the environment.
    let shown = &text["file:".len()..];
    let fail = |why: String| {
        Problem::new(format!("names the file \"{shown}\", which {why}"), "check path and rights")
    };
    let mut content = String::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut content))
        .map_err(|error| fail(format!("cannot be read ({})", error.kind())))?;
    if content.len() as u64 > SECRET_BYTES_MAX {
        return Err(fail("is larger than 64KiB".into()));
    }
    Ok(Secret(content.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "A").then(|| "alpha".into())
    }

    #[test]
    fn names_are_replaced_and_dollars_can_be_written() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "alpha"),
            ("<${A}|${A}>", "<alpha|alpha>"),
            ("$${A}", "${A}"),
            ("5$ and $A", "5$ and $A"),
        ] {
            assert_eq!(expand(text, &environment).unwrap(), expected);
        }
        assert!(expand("${B}", &environment).unwrap_err().text.contains("\"B\""));
        assert!(expand("${A", &environment).is_err());
        assert!(expand("${}", &environment).is_err());
        assert!(expand("${a b}", &environment).is_err());
    }

    #[test]
    fn a_secret_never_shows_its_value() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
