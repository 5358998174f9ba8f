//! What the broker knows of a message besides its payload, put into the payload.
//!
//! Fields whose path begins with `$key`, `$topic`, `$partition` or `$properties` are read like any
//! other, because they are written into the JSON object as its first members, before it is
//! decoded. All that the schema names are written, with null for what is not there, so a message
//! that has a member of such a name itself has it twice, and cannot speak for the broker. Without
//! such fields nothing is copied. A payload that is no object is left as it is.

/// Which of them the schema names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    key: bool,
    topic: bool,
    partition: bool,
    properties: Vec<String>,
}

impl Envelope {
    /// Returns what these paths of fields (and their aliases) name.
    pub fn of_paths<'a>(paths: impl IntoIterator<Item = &'a [String]>) -> Envelope {
        let mut envelope = Envelope::default();
        for path in paths {
            match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["$key"] => envelope.key = true,
                ["$topic"] => envelope.topic = true,
                ["$partition"] => envelope.partition = true,
                ["$properties", name] => envelope.properties.push(name.to_owned()),
                _ => {}
            }
        }
        envelope.properties.sort();
        envelope.properties.dedup();
        envelope
    }

    /// Reports whether payloads stay as they are.
    pub fn is_empty(&self) -> bool {
        *self == Envelope::default()
    }
}

/// The envelope of the messages of one partition.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    wanted: Envelope,
    /// Topic and partition as members, which are the same for all messages.
    place: Vec<u8>,
}

impl Writer {
    /// `None` if nothing is wanted. `topic` is that of the partition.
    pub(super) fn new(wanted: &Envelope, topic: &str) -> Option<Writer> {
        let split = topic.rsplit_once("-partition-");
        let number = split.and_then(|(_, number)| number.parse::<u32>().ok());
        let whole = split.filter(|_| number.is_some()).map_or(topic, |(whole, _)| whole);
        let mut place = Vec::new();
        if wanted.topic {
            member(&mut place, "$topic", Some(whole.as_bytes()));
        }
        if wanted.partition {
            let number = number.map_or("null".to_owned(), |number| number.to_string());
            place.extend_from_slice(format!("\"$partition\":{number},").as_bytes());
        }
        (!wanted.is_empty()).then(|| Writer { wanted: wanted.clone(), place })
    }

    /// Appends the payload with its envelope.
    pub(super) fn write<'a>(
        &self,
        payload: &[u8],
        key: Option<&[u8]>,
        property: impl Fn(&str) -> Option<&'a [u8]>,
        to: &mut Vec<u8>,
    ) {
        let is_space = |byte: &u8| b" \t\r\n".contains(byte);
        let Some(at) = payload.iter().position(|byte| !is_space(byte)) else {
            return to.extend_from_slice(payload);
        };
        if payload[at] != b'{' {
            return to.extend_from_slice(payload);
        }
        let (head, rest) = payload.split_at(at + 1);
        to.extend_from_slice(head);
        to.extend_from_slice(&self.place);
        if self.wanted.key {
            member(to, "$key", key);
        }
        if !self.wanted.properties.is_empty() {
            to.extend_from_slice(b"\"$properties\":{");
            for name in &self.wanted.properties {
                member(to, name, property(name));
            }
            to.pop();
            to.extend_from_slice(b"},");
        }
        if rest.iter().find(|byte| !is_space(byte)) == Some(&b'}') {
            to.pop();
        }
        to.extend_from_slice(rest);
    }
}

/// Appends `"name":"value",`. A value that is not UTF-8 is as good as none.
fn member(to: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    text(to, name);
    to.push(b':');
    match value.and_then(|value| std::str::from_utf8(value).ok()) {
        Some(value) => text(to, value),
        None => to.extend_from_slice(b"null"),
    }
    to.push(b',');
}

/// Appends a JSON string.
fn text(to: &mut Vec<u8>, value: &str) {
    to.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => to.extend_from_slice(&[b'\\', byte]),
            0..0x20 => to.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => to.push(byte),
        }
    }
    to.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(paths: &[&str]) -> Envelope {
        let split = |path: &&str| path.split('.').map(str::to_owned).collect::<Vec<_>>();
        let paths: Vec<Vec<String>> = paths.iter().map(split).collect();
        Envelope::of_paths(paths.iter().map(Vec::as_slice))
    }

    fn written(envelope: &Envelope, topic: &str, key: Option<&str>, payload: &str) -> String {
        let property = |name: &str| (name == "a").then_some(&b"A"[..]);
        let writer = Writer::new(envelope, topic).expect("something is wanted");
        let mut to = Vec::new();
        writer.write(payload.as_bytes(), key.map(str::as_bytes), property, &mut to);
        String::from_utf8(to).expect("JSON is text")
    }

    #[test]
    fn members_stand_before_those_of_the_message() {
        let all = paths(&["$key", "$topic", "$partition", "$properties.b", "$properties.a", "x"]);
        let topic = "persistent://t/n/x-partition-7";
        let members = [
            r#""$topic":"persistent://t/n/x""#,
            r#""$partition":7"#,
            r#""$key":"k\"\\\u000a""#,
            r#""$properties":{"a":"A","b":null}"#,
        ];
        let members = members.join(",");
        for (payload, expected) in [
            (r#"{"x":1}"#, &*format!(r#"{{{members},"x":1}}"#)),
            (" { } ", &*format!(" {{{members} }} ")),
            ("[1]", "[1]"),
            ("", ""),
            (" ", " "),
        ] {
            assert_eq!(written(&all, topic, Some("k\"\\\n"), payload), expected);
        }
        let place = paths(&["$partition"]);
        assert_eq!(written(&place, "persistent://t/n/x", None, "{}"), r#"{"$partition":null}"#);
        let key = paths(&["$key"]);
        assert_eq!(written(&key, topic, None, r#"{"x":1}"#), r#"{"$key":null,"x":1}"#);
    }

    #[test]
    fn what_is_malformed_stays_malformed() {
        let key = paths(&["$key"]);
        for payload in ["{", "{,}", "{\"a\"}", "{}}", "{ ,\"a\":1}", "{\"a\":1,}", "{]"] {
            let written = written(&key, "t", Some("k"), payload);
            let read: Result<serde_json::Value, _> = serde_json::from_str(&written);
            assert!(read.is_err(), "{payload} became {written}");
        }
    }

    #[test]
    fn only_whole_names_are_the_brokers() {
        for path in ["key", "$key.x", "$keys", "$properties", "$properties.a.b", "x.$key"] {
            assert!(paths(&[path]).is_empty(), "{path}");
        }
        assert!(Writer::new(&paths(&["x"]), "t").is_none());
    }
}
