//! Starts ClickHouse 18.16 as a cluster: ZooKeeper and servers that are replicas and shards. Stands
//! beside `clickhouse.rs`, whose handle it gives for each server.
#![allow(dead_code, reason = "each test program uses its part of the starters")]

use super::clickhouse::{ClickHouse, free_ports};

/// The name of the cluster.
pub(crate) const CLUSTER: &str = "main";

/// Running servers of one cluster, named by shard and replica.
#[derive(Debug)]
pub(crate) struct Replicas {
    servers: Vec<ClickHouse>,
}

impl Replicas {
    /// Starts so many replicas of each of so many shards and waits until they answer. The first
    /// server owns ZooKeeper.
    ///
    /// # Panics
    /// If something cannot be fetched or started, with the script's last words.
    pub(crate) fn start(shards: usize, replicas: usize) -> Replicas {
        let [zookeeper] = free_ports();
        let ports: Vec<[u16; 3]> = (0..shards * replicas).map(|_| free_ports()).collect();
        let of_shard = |shard: &[[u16; 3]]| {
            let natives: Vec<String> = shard.iter().map(|[_, tcp, _]| tcp.to_string()).collect();
            natives.join(",")
        };
        let members: Vec<String> = ports.chunks(replicas).map(of_shard).collect();
        let cluster = format!("{CLUSTER}={}", members.join(";"));
        let zookeeper = zookeeper.to_string();
        let mut servers = Vec::new();
        for (index, [http, tcp, interserver]) in ports.into_iter().enumerate() {
            let shard = format!("{:02}", index / replicas + 1);
            let replica = format!("r{}", index % replicas + 1);
            let mut options = vec!["--cluster", &cluster, "--shard", &shard];
            options.extend(["--replica", &replica]);
            match index {
                0 => options.extend(["--zookeeper", "--zk", &zookeeper]),
                _ => options.extend(["--join-zk", &zookeeper]),
            }
            let ports = [("--http", http), ("--tcp", tcp), ("--interserver", interserver)];
            servers.push(ClickHouse::start_script(
                "clickhouse/clickhouse.sh",
                "clickhouse",
                &ports,
                &options,
            ));
        }
        Replicas { servers }
    }

    /// Returns a server: of the first shard's replicas, then of the second's.
    pub(crate) fn server(&self, index: usize) -> &ClickHouse {
        &self.servers[index]
    }

    /// Returns all servers.
    pub(crate) fn all(&self) -> &[ClickHouse] {
        &self.servers
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        // The first one owns ZooKeeper and must be the last.
        while self.servers.pop().is_some() {}
    }
}
