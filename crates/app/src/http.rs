//! `/healthz`, `/readyz` and `/metrics` over HTTP, and `POST /api/reload`.
//!
//! It asks nobody who they are: whoever reaches the address may reload.
//!
//! Healthy: the process answers. Ready: it has partitions, every lane of theirs reads, and none has
//! failed; or it stands by because other processes have all partitions.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    routing::{get, post},
};
use tidemill_engine::metrics::Metrics;

use crate::{exposition, reload::Reloader};

/// Serves in a thread of its own until the process ends; returns the address it listens on. Without
/// a reloader there is nothing to reload.
///
/// # Errors
/// If the address is taken or not ours.
pub fn serve(
    listen: SocketAddr,
    metrics: Arc<Metrics>,
    reloader: Option<Arc<Reloader>>,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, router(metrics, reloader)).await
        });
        if let Err(error) = served {
            tracing::warn!(%error, "http endpoint ended");
        }
    })?;
    Ok(address)
}

fn router(metrics: Arc<Metrics>, reloader: Option<Arc<Reloader>>) -> Router {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(page))
        .with_state(metrics);
    match reloader {
        Some(reloader) => {
            router.merge(Router::new().route("/api/reload", post(reload)).with_state(reloader))
        }
        None => router,
    }
}

async fn reload(
    State(reloader): State<Arc<Reloader>>,
) -> (StatusCode, [(header::HeaderName, &'static str); 1], String) {
    let json = [(header::CONTENT_TYPE, "application/json")];
    // It waits for lanes, and metrics have to be answered meanwhile.
    match tokio::task::spawn_blocking(move || reloader.reload("POST /api/reload")).await {
        Ok(answer) if answer.error.is_some() => {
            (StatusCode::UNPROCESSABLE_ENTITY, json, answer.to_json() + "\n")
        }
        Ok(answer) => (StatusCode::OK, json, answer.to_json() + "\n"),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, json, "{}\n".to_owned()),
    }
}

async fn ready(State(metrics): State<Arc<Metrics>>) -> (StatusCode, String) {
    let lanes = metrics.lanes();
    let mut text = String::new();
    for (partition, lane) in &lanes {
        if let Some(failure) = &lane.failure {
            let _ = writeln!(text, "partition {partition}: {failure}");
        } else if !lane.running {
            let _ = writeln!(text, "partition {partition}: not reading");
        }
    }
    let standby = metrics.standby_count();
    match (text.is_empty(), lanes.len()) {
        (true, 0) if standby == 0 => {
            (StatusCode::SERVICE_UNAVAILABLE, "no partition is assigned yet\n".to_owned())
        }
        (true, 0) => (StatusCode::OK, format!("ready, on standby for {standby} partitions\n")),
        (true, count) => (StatusCode::OK, format!("ready, {count} lanes\n")),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

async fn page(
    State(metrics): State<Arc<Metrics>>,
) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], exposition::page(&metrics))
}
