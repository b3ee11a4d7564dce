//! `eventide scheduler`: hand the shards of jobs to executors.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use eventide_catalog::Stores;
use eventide_engine::{Scheduler, SchedulerOptions};

use crate::arguments::CLUSTER_ENVIRONMENT;

use super::{Stop, index::told_to_stop, secret, warn_of_open_port};

/// Arguments of `scheduler`.
#[derive(Debug, Args)]
#[command(after_help = CLUSTER_ENVIRONMENT)]
pub(crate) struct SchedulerArguments {
    /// Where it listens. Without `EVENTIDE_CLUSTER_TOKEN`, whoever reaches this address can run jobs.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50050")]
    listen: SocketAddr,
    /// The host name under which executors reach it, if it is not that address.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// How long an executor may be silent before its shards are given to others.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = seconds)]
    executor_timeout: Duration,
    /// How long a job waits for executors when the last one is gone; then it fails.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = seconds)]
    no_executors_grace: Duration,
    /// Where Prometheus can read its metrics, `/metrics`: a port of this machine, or an address.
    #[arg(long, value_name = "ADDRESS", value_parser = metrics_address)]
    metrics: Option<SocketAddr>,
}

/// An address, or a port of this machine.
pub(super) fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| "expected a port such as `9464`, or `10.0.0.1:9464`".to_owned())
}

/// Says where metrics are, for who asked for any free port.
pub(super) fn tell_metrics(address: Option<SocketAddr>) {
    if let Some(address) = address {
        println!("metrics at http://{address}/metrics");
    }
}

/// A time of one second or more.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_secs(1) {
        return Err("one second is the least".to_owned());
    }
    Ok(time)
}

pub(super) async fn run(
    arguments: &SchedulerArguments,
    stores: &Arc<Stores>,
) -> Result<ExitCode, Stop> {
    let secret = secret()?;
    warn_of_open_port(arguments.listen.ip(), secret.as_ref());
    let options = SchedulerOptions {
        secret,
        metrics: arguments.metrics,
        listen: arguments.listen,
        advertise: arguments.advertise.clone(),
        executor_timeout: arguments.executor_timeout,
        no_executors_grace: arguments.no_executors_grace,
    };
    let bound = Scheduler::bind(&options, Arc::clone(stores)).await;
    let scheduler = bound.map_err(|e| Stop::of_run(&e))?;
    tell_metrics(scheduler.metrics_address());
    println!("scheduler listens at http://{}", scheduler.address());
    tokio::select! {
        served = scheduler.serve() => served.map_err(|e| Stop::of_run(&e))?,
        () = told_to_stop() => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::port("9464", Some("127.0.0.1:9464"))]
    #[case::address("0.0.0.0:9464", Some("0.0.0.0:9464"))]
    #[case::name("night", None)]
    fn metrics_stay_on_this_machine_unless_told(#[case] text: &str, #[case] at: Option<&str>) {
        let address = metrics_address(text).ok().map(|address| address.to_string());
        assert_eq!(address.as_deref(), at);
    }

    #[rstest]
    #[case::some("20s", Some(20))]
    #[case::none("0s", None)]
    #[case::bare("20", None)]
    fn a_time_has_a_unit_and_a_second_at_least(#[case] text: &str, #[case] time: Option<u64>) {
        assert_eq!(seconds(text).ok(), time.map(Duration::from_secs));
    }
}
