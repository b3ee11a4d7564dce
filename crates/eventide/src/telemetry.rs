//! Logging, to standard error, and traces, to a collector.

mod collector;
mod traces;

use std::io::{self, IsTerminal};

use miette::{IntoDiagnostic, WrapErr};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    arguments::{Common, LogFormat},
    environment,
};
use collector::Collector;
use traces::{Flush, Traces};

/// Libraries that tell of every file they touch; the command line can still ask for them by name.
const QUIET: &str = "buoyant_kernel=warn,buoyant_kernel_engine=warn,deltalake_core=warn";

/// Whose spans are sent to a collector.
const OURS: &str = "eventide";

/// Starts logging and traces as the command line wants them. Dropping what it gives sends the last spans.
///
/// # Errors
/// When the filter is not one, or the collector has no usable address.
pub(crate) fn start(common: &Common) -> miette::Result<Option<Flush>> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", common.log))
        .into_diagnostic()
        .wrap_err_with(|| format!("`{}` is no log filter", common.log))?;
    let logging = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let logging: Box<dyn Layer<Registry> + Send + Sync> = match common.log_format {
        LogFormat::Text => logging.with_filter(filter).boxed(),
        LogFormat::Json => logging.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let traces = match &common.otlp {
        Some(endpoint) => {
            let collector = Collector::at(endpoint).into_diagnostic()?;
            Some(Traces::start(
                collector,
                &environment::service_name(),
                &environment::worker_name(),
            ))
        }
        None => None,
    };
    let (traces, flush) = traces.unzip();
    let ours = Targets::new().with_target(OURS, tracing::Level::INFO);
    let traces = traces.map(|traces| traces.with_filter(ours));
    tracing_subscriber::registry().with(logging).with(traces).init();
    Ok(flush)
}
