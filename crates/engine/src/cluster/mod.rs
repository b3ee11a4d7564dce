//! The same plan over many workers: Ballista's scheduler and executors with our operator in them, and
//! the client that hands them a run. The only part of the program that names Ballista.
//!
//! A run travels as a recipe, [`RunTable`](table::RunTable): the scheduler reads the plan file that it
//! names and makes one task a shard. What a task achieves is its receipt in the object store; nothing
//! that Ballista keeps is needed to go on after any process has died. The captions that a query reads
//! are the one thing that Ballista's executors keep: [`captions`].

mod captions;
mod client;
mod codec;
mod executor;
mod guarded;
mod placing;
mod registrar;
mod scheduler;
mod secret;
mod session;
mod stage;
mod state;
mod table;
mod watch;

pub use captions::ClusterCaptions;
pub use client::Cluster;
pub use executor::{ExecutorAddresses, ExecutorOptions, run_executor};
pub use scheduler::{Scheduler, SchedulerOptions};
pub use secret::Secret;
pub(crate) use state::Departures;
#[cfg(test)]
pub(crate) use state::Leaving;
pub use state::{ClusterState, ExecutorState, RunState};
pub use watch::Patience;

use ballista_core::error::BallistaError;

use crate::Error;

/// Where a scheduler is, out of `http://host:port` or `host:port`.
fn scheduler_address(url: &str) -> Result<(String, u16), Error> {
    let wrong = || Error::SchedulerAddress { url: url.to_owned() };
    let text = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let parsed = url::Url::parse(&text).map_err(|_| wrong())?;
    match (parsed.scheme(), parsed.host_str(), parsed.port()) {
        ("http", Some(host), Some(port)) => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

fn failed(what: &'static str) -> impl FnOnce(BallistaError) -> Error {
    move |source| Error::Process { what, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::url("http://night:50050", Some(("night", 50050)))]
    #[case::bare("10.0.0.1:50050", Some(("10.0.0.1", 50050)))]
    #[case::six("http://[::1]:50050", Some(("[::1]", 50050)))]
    #[case::no_port("http://night", None)]
    #[case::other_scheme("df://night:50050", None)]
    #[case::nothing("", None)]
    fn an_address_is_a_host_and_a_port(#[case] url: &str, #[case] address: Option<(&str, u16)>) {
        let address = address.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(scheduler_address(url).ok(), address);
    }
}
