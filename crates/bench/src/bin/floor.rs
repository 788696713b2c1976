//! The server of the floor, on the allocator and the runtime of the api. It serves on `API_ADDR`, says that it is ready,
//! and ends with SIGTERM.

use pricing_bench::floor;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::var("API_ADDR")?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, floor::router()) => Ok(served?),
        _ = terminate.recv() => Ok(()),
    }
}
