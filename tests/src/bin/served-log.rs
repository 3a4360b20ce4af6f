//! A node that serves a log until it is killed: prints where, and that is all. A port
//! may be given behind the directory. For the tests that kill nodes.

use exactlog::Log;
use exactlog_broker::{NodeOptions, bind};
use std::error::Error;
use std::net::SocketAddr;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("the directory is missing")?;
    let port = std::env::args().nth(2).map_or(Ok(0), |port| port.parse())?;
    let listen = SocketAddr::from(([127, 0, 0, 1], port));
    let bound = bind(NodeOptions { listen, ..NodeOptions::default() }).await?;
    let running = bound.serve(&Log::open(directory)?);
    println!("{}", running.address());
    std::future::pending::<()>().await;
    Ok(())
}
