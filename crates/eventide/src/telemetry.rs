//! Logging, to standard error.

use std::io::{self, IsTerminal};

use miette::{IntoDiagnostic, WrapErr};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Common, LogFormat};

/// Libraries that tell of every file they touch; the command line can still ask for them by name.
const QUIET: &str = "buoyant_kernel=warn,buoyant_kernel_engine=warn,deltalake_core=warn";

/// Starts logging as the command line wants it.
///
/// # Errors
/// When the filter is not one.
pub(crate) fn start(common: &Common) -> miette::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", common.log))
        .into_diagnostic()
        .wrap_err_with(|| format!("`{}` is no log filter", common.log))?;
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match common.log_format {
        LogFormat::Text => logging.init(),
        LogFormat::Json => logging.json().flatten_event(true).init(),
    }
    Ok(())
}
