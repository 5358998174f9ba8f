use super::GOOD;
use crate::config::Config;
#[test]
fn placeholder() {
    let _ = (GOOD, Config::parse);
}
