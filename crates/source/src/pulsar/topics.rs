//! Which topics are read, and what the lanes of their partitions are called.
//!
//! A lane's name is in every record and row, so it must never come to mean something else. One
//! topic: the partition's number, or [`PLAIN_PARTITION`]. Several: the partition's full name, which
//! the broker holds to be unique.

use std::sync::Arc;

use tidemill_pulsar::partition_topic;

/// The name of the only partition of a topic that is not partitioned, where one topic is read.
pub const PLAIN_PARTITION: &str = "plain";

/// Which topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    /// One, by its name without a partition's number.
    One(String),
    /// Several by name; also one that is to have the lane names of several.
    List(Vec<String>),
    /// All of a namespace whose name fits: `persistent://tenant/namespace/sensors-*`. A `*` stands
    /// for any characters of the name; tenant and namespace are written out.
    Pattern(String),
}

impl Topics {
    /// Returns the name of a lane: of a partition, or of a topic without partitions.
    pub fn lane(&self, topic: &str, partition: Option<u32>) -> Arc<str> {
        match (self, partition) {
            (Topics::One(_), None) => PLAIN_PARTITION.into(),
            (Topics::One(_), Some(number)) => number.to_string().into(),
            (_, None) => topic.into(),
            (_, Some(number)) => partition_topic(topic, number).into(),
        }
    }

    /// Returns the topic (of one partition) that a lane reads.
    ///
    /// # Errors
    /// If these topics have no such lane.
    pub fn topic_of_lane(&self, lane: &str) -> Result<String, String> {
        match self {
            Topics::One(topic) if lane == PLAIN_PARTITION => Ok(topic.clone()),
            Topics::One(topic) => {
                let number = lane.parse().map_err(|_| format!("no partition number: {lane:?}"))?;
                Ok(partition_topic(topic, number))
            }
            _ if lane.contains("://") => Ok(lane.to_owned()),
            _ => Err(format!("no full name of a topic: {lane:?}")),
        }
    }
}

/// Returns the name by which the broker knows a topic: `persistent://tenant/namespace/name`.
///
/// # Errors
/// If the name has neither all parts nor only the last; the text says so.
pub fn full_name(topic: &str) -> Result<String, String> {
    let name = match topic.strip_prefix("persistent://") {
        Some(rest) => rest.to_owned(),
        None if !topic.contains('/') => format!("public/default/{topic}"),
        None => topic.to_owned(),
    };
    let parts: Vec<&str> = name.split('/').collect();
    let whole = parts.len() == 3 && parts.iter().all(|part| !part.is_empty());
    if !whole || name.contains(':') {
        return Err(format!("{topic:?} is no name such as persistent://tenant/namespace/topic"));
    }
    Ok(format!("persistent://{name}"))
}

/// Reports whether a name fits a pattern in which `*` stands for any characters.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The earliest place of each part leaves most to those behind it.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_topic_keeps_its_numbers_and_several_have_full_names() {
        let one = Topics::One("persistent://a/b/c".into());
        let many = Topics::List(vec!["persistent://a/b/c".into()]);
        for (topics, partition, lane) in [
            (&one, None, "plain"),
            (&one, Some(3), "3"),
            (&many, None, "persistent://a/b/c"),
            (&many, Some(3), "persistent://a/b/c-partition-3"),
        ] {
            let name = topics.lane("persistent://a/b/c", partition);
            assert_eq!(&*name, lane);
            let topic = partition.map_or("persistent://a/b/c".to_owned(), |number| {
                partition_topic("persistent://a/b/c", number)
            });
            assert_eq!(topics.topic_of_lane(&name), Ok(topic));
        }
        assert!(one.topic_of_lane("persistent://a/b/c").is_err());
        assert!(many.topic_of_lane("3").is_err());
    }

    #[test]
    fn star_stands_for_any_characters_also_none() {
        for (pattern, name, expected) in [
            ("a-*", "a-b", true),
            ("a-*", "a-", true),
            ("a-*", "a", false),
            ("*", "", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("*-eu-*", "x-eu-y", true),
            ("*x", "xxy", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn short_names_become_those_of_the_broker() {
        for (short, full) in [
            ("iot", "persistent://public/default/iot"),
            ("a/b/c", "persistent://a/b/c"),
            ("persistent://a/b/c", "persistent://a/b/c"),
        ] {
            assert_eq!(full_name(short).as_deref(), Ok(full));
        }
        for bad in ["", "a/b", "a//c", "non-persistent://a/b/c", "persistent://a/b/c/d", "x:y"] {
            assert!(full_name(bad).is_err(), "{bad:?}");
        }
    }
}
