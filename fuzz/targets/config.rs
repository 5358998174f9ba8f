//! Configuration files: any bytes are a configuration or a bounded list of problems with places,
//! the same each time, and what comes from the environment is never shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidemill::config::{Config, ERRORS_MAX};

/// Stands for every secret; nothing in a file spells it.
const SECRET: &str = "s3cr3t-value-of-the-environment";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files of this machine are none of the fuzzer's business.
    if text.contains("file:") || text.contains(SECRET) {
        return;
    }
    let environment = |name: &str| (name.len() < 6).then(|| SECRET.to_owned());
    match Config::parse("fuzz.toml", text, &environment) {
        Ok(config) => {
            let again = Config::parse("fuzz.toml", text, &environment).expect("as before");
            assert_eq!(config.fingerprint(), again.fingerprint());
            assert!(config.rollup("p", 1).open_windows_max() > 0);
            assert!(!config.key_columns().is_empty());
            let lines = config.fingerprint();
            let mut sorted: Vec<&str> = lines.lines().collect();
            sorted.sort_unstable();
            assert!(sorted.iter().copied().eq(lines.lines()), "sorted lines: {lines}");
        }
        Err(errors) => {
            assert!((1..=ERRORS_MAX).contains(&errors.errors.len()));
            let line_count = text.split('\n').count();
            assert!(errors.errors.iter().all(|e| (1..=line_count).contains(&e.line)), "{errors}");
            assert!(errors.errors.iter().all(|error| !error.problem.is_empty()), "{errors:?}");
            assert!(!errors.to_string().contains(SECRET), "{errors}");
            let again = Config::parse("fuzz.toml", text, &environment).expect_err("as before");
            assert_eq!(errors, again);
        }
    }
});
