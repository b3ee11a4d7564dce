//! The environment, read once: settings of the stores, folders, tools. No other file reads it.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use eventide_engine::OwnFolder;
use eventide_media::Tools;

use crate::arguments::ToolArguments;

/// How the names of variables begin that are settings of object stores.
const STORE_SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The program that brings far pictures of a video in one run.
const DECODER: &str = "eventide-decoder";

/// The file of Silero's voice detector that reads many frames a run.
const VOICE_DETECTOR: &str = "silero_vad_16k_sequence.onnx";

/// A tool that the work needs is missing.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum ToolError {
    #[error("cannot find `{name}`")]
    #[diagnostic(help(
        "install it (Debian: `apt install ffmpeg`), or name its folder by --tools or EVENTIDE_TOOLS; in a checkout, `cargo xtask setup` does it"
    ))]
    Missing { name: &'static str },
    #[error("cannot find the ONNX Runtime library `libonnxruntime.so`")]
    #[diagnostic(help(
        "name it by --onnxruntime or ORT_DYLIB_PATH; it is in the PyPI package `onnxruntime`, and in a checkout `cargo xtask setup` fetches it"
    ))]
    MissingRuntime,
    #[error("cannot find the voice detector `{name}`", name = VOICE_DETECTOR)]
    #[diagnostic(help(
        "name it by --voice; it is in the PyPI package `silero-vad` (MIT), and in a checkout `cargo xtask setup` fetches it"
    ))]
    MissingVoice,
    #[error("cannot find `java`, which METEOR runs on")]
    #[diagnostic(help(
        "install it (Debian: `apt install default-jre-headless`), or name it by --java, or its folder by --tools or EVENTIDE_TOOLS; in a checkout, `cargo xtask setup` does it"
    ))]
    MissingJava,
}

/// Settings of the object stores, such as `AWS_REGION`.
pub(crate) fn store_settings() -> BTreeMap<String, String> {
    let all = env::vars_os();
    settings(
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    )
}

/// Those of the variables that are settings of stores. An empty one says nothing: files for containers pass on what
/// is not set as empty, and an empty key must not stand in the way of the role of a machine.
fn settings(variables: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let is_setting = |name: &str| STORE_SETTINGS.iter().any(|prefix| name.starts_with(prefix));
    variables.filter(|(name, value)| is_setting(name) && !value.is_empty()).collect()
}

/// The folder for model bundles and the history of the shell.
pub(crate) fn cache_folder() -> PathBuf {
    let home = || env::home_dir().map(|home| home.join(".cache"));
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home)
        .unwrap_or_else(env::temp_dir)
        .join("eventide")
}

/// The token of the cluster: from the file that `EVENTIDE_CLUSTER_TOKEN_FILE` names, else from
/// `EVENTIDE_CLUSTER_TOKEN`. Never from the command line, which every user of a machine may read.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn cluster_token() -> io::Result<Option<String>> {
    token("EVENTIDE_CLUSTER_TOKEN_FILE", "EVENTIDE_CLUSTER_TOKEN")
}

/// What a search engine is shown, a whole `Authorization` header: from the file that
/// `EVENTIDE_SEARCH_AUTHORIZATION_FILE` names, else from `EVENTIDE_SEARCH_AUTHORIZATION`.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn search_authorization() -> io::Result<Option<String>> {
    token("EVENTIDE_SEARCH_AUTHORIZATION_FILE", "EVENTIDE_SEARCH_AUTHORIZATION")
}

/// The token of a server, likewise from `EVENTIDE_SERVE_TOKEN_FILE`, else from `EVENTIDE_SERVE_TOKEN`.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn serve_token() -> io::Result<Option<String>> {
    token("EVENTIDE_SERVE_TOKEN_FILE", "EVENTIDE_SERVE_TOKEN")
}

fn token(file: &str, text: &str) -> io::Result<Option<String>> {
    let set = |name| env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
    match set(file) {
        Some(file) => fs::read_to_string(file).map(Some),
        None => Ok(set(text)),
    }
}

/// A folder for copies of remote videos, below `TMPDIR` or the system's. It goes when it is dropped;
/// what a process left that was killed goes now.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn scratch_folder() -> io::Result<OwnFolder> {
    OwnFolder::make(&env::temp_dir(), "eventide-scratch-")
}

/// Likewise a folder for what passes between the stages of a cluster.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn executor_folder() -> io::Result<OwnFolder> {
    OwnFolder::make(&env::temp_dir(), "eventide-executor-")
}

/// What this process is called in traces.
pub(crate) fn service_name() -> String {
    env::var("OTEL_SERVICE_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "eventide".to_owned())
}

/// Host and process, for the `videos` table.
pub(crate) fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}/{}", if host.is_empty() { "localhost" } else { host }, std::process::id())
}

/// The media tools.
///
/// # Errors
/// Which one is missing.
pub(crate) fn media_tools(arguments: &ToolArguments) -> Result<Tools, ToolError> {
    let find = |name| {
        in_folder(arguments.tools.as_deref(), name)
            .or_else(|| in_path(name))
            .ok_or(ToolError::Missing { name })
    };
    Ok(Tools { ffmpeg: find("ffmpeg")?, ffprobe: find("ffprobe")?, decoder: decoder(arguments) })
}

/// The decoder of our own: in the folder of the tools, beside this program, or in `PATH`.
fn decoder(arguments: &ToolArguments) -> Option<PathBuf> {
    let program = env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    in_folder(arguments.tools.as_deref(), DECODER)
        .or_else(|| in_folder(beside, DECODER))
        .or_else(|| in_path(DECODER))
}

/// The Java that was named, or that of the tools, or the machine's.
///
/// # Errors
/// When it is nowhere to be found.
pub(crate) fn java(named: Option<&Path>, tools: Option<&Path>) -> Result<PathBuf, ToolError> {
    named
        .map(Path::to_path_buf)
        .or_else(|| in_folder(tools, "java"))
        .or_else(|| in_path("java"))
        .ok_or(ToolError::MissingJava)
}

/// The voice detector that was named, or that of the folder of a Whisper, or that of the tools.
///
/// # Errors
/// When it is nowhere to be found.
pub(crate) fn voice_detector(
    named: Option<&Path>,
    whisper: &Path,
    tools: &ToolArguments,
) -> Result<PathBuf, ToolError> {
    let of_tools = || in_folder(Some(&tools.tools.as_deref()?.join("silero-vad")), VOICE_DETECTOR);
    named
        .map(Path::to_path_buf)
        .or_else(|| in_folder(Some(whisper), VOICE_DETECTOR))
        .or_else(of_tools)
        .ok_or(ToolError::MissingVoice)
}

/// The ONNX Runtime library.
///
/// # Errors
/// When it is nowhere to be found.
pub(crate) fn onnxruntime(arguments: &ToolArguments) -> Result<PathBuf, ToolError> {
    arguments
        .onnxruntime
        .clone()
        .or_else(|| in_folder(arguments.tools.as_deref(), "libonnxruntime.so"))
        .or_else(|| in_folder(Some(Path::new("/usr/local/lib")), "libonnxruntime.so"))
        .or_else(|| in_folder(Some(Path::new("/usr/lib")), "libonnxruntime.so"))
        .ok_or(ToolError::MissingRuntime)
}

fn in_folder(folder: Option<&Path>, name: &str) -> Option<PathBuf> {
    let path = folder?.join(name);
    path.is_file().then(|| std::path::absolute(&path).unwrap_or(path))
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find_map(|folder| in_folder(Some(&folder), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_to_nothing_is_not_set() {
        let all = [("AWS_REGION", "eu"), ("AWS_ACCESS_KEY_ID", ""), ("PATH", "/bin")];
        let told =
            settings(all.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter());
        assert_eq!(told, BTreeMap::from([("AWS_REGION".to_owned(), "eu".to_owned())]));
    }
}
