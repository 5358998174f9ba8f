//! What became of a reload, as text and as JSON. It decides nothing.

use serde_json::{Value, json};
use tidemill_engine::{
    settings::{Edge, LaneAnswer},
    window_log::utc,
};

/// What became of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Keys whose new value holds now.
    pub applied_now: Vec<String>,
    /// Keys whose new value holds for windows beyond the edge that each lane has chosen.
    pub at_next_window_edge: Vec<String>,
    /// The lanes with their edges, where there are such keys.
    pub lanes: Vec<LaneAnswer>,
    /// Keys that keep the old value until a restart.
    pub needs_restart: Vec<String>,
    /// Why nothing has changed.
    pub error: Option<String>,
}

impl Answer {
    pub(super) fn refused(error: String) -> Answer {
        Answer { error: Some(error), ..Answer::default() }
    }

    /// Returns `partition=edge` of each lane.
    pub(super) fn lanes_text(&self) -> String {
        let lanes = self.lanes.iter().map(|lane| format!("{}={}", lane.partition, text(lane.edge)));
        lanes.collect::<Vec<_>>().join(" ")
    }

    /// Returns the answer of `POST /api/reload`.
    pub fn to_json(&self) -> String {
        let edge = self.latest_edge();
        let key = |key: &String| json!({ "key": key, "edge": edge });
        let lanes = self.lanes.iter();
        let lanes = lanes.map(|lane| (lane.partition.to_string(), Value::from(text(lane.edge))));
        json!({
            "applied_now": self.applied_now,
            "at_next_window_edge": self.at_next_window_edge.iter().map(key).collect::<Vec<_>>(),
            "lanes": lanes.collect::<serde_json::Map<_, _>>(),
            "needs_restart": self.needs_restart,
            "error": self.error,
        })
        .to_string()
    }

    /// Returns the edge behind which all lanes go by the new values; `None` if it is not known or
    /// was there before.
    fn latest_edge(&self) -> Option<String> {
        let mut latest_ms = None;
        for lane in &self.lanes {
            match lane.edge {
                Edge::Passed => {}
                Edge::At(edge_ms) => latest_ms = latest_ms.max(Some(edge_ms)),
                Edge::Pending => return None,
            }
        }
        latest_ms.map(rfc3339)
    }
}

fn text(edge: Edge) -> String {
    match edge {
        Edge::Passed => "passed".to_owned(),
        Edge::At(edge_ms) => rfc3339(edge_ms),
        Edge::Pending => "pending".to_owned(),
    }
}

fn rfc3339(ms: i64) -> String {
    utc(ms).replace(' ', "T") + "Z"
}
