//! The servers of this program: given by the environment, or started once.

use std::sync::OnceLock;

#[path = "../../../../tests/service/clickhouse.rs"]
pub(crate) mod clickhouse;
#[path = "../../../../tests/service/clickhouse_modern.rs"]
pub(crate) mod clickhouse_modern;
#[path = "../../../../tests/service/clickhouse_replicas.rs"]
pub(crate) mod clickhouse_replicas;

use clickhouse::ClickHouse;
use clickhouse_replicas::Replicas;

pub(crate) fn legacy_url() -> String {
    static SERVER: OnceLock<ClickHouse> = OnceLock::new();
    let given = std::env::var("TIDEMILL_CLICKHOUSE_URL");
    given.unwrap_or_else(|_| SERVER.get_or_init(ClickHouse::start).url().into())
}

pub(crate) fn modern_url() -> String {
    static SERVER: OnceLock<ClickHouse> = OnceLock::new();
    let given = std::env::var("TIDEMILL_CLICKHOUSE_MODERN_URL");
    given.unwrap_or_else(|_| SERVER.get_or_init(clickhouse_modern::start).url().into())
}

/// Two shards with two replicas each; nobody kills them.
pub(crate) fn replicas() -> &'static Replicas {
    static CLUSTER: OnceLock<Replicas> = OnceLock::new();
    CLUSTER.get_or_init(|| Replicas::start(2, 2))
}
