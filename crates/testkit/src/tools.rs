//! The real tools that tests use, from the folder that `cargo xtask setup` fills.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::program::Program;

/// The folder of the tools. Every accessor fails where its tool is missing, and says how to get it.
#[derive(Debug, Clone)]
pub struct Tools {
    folder: PathBuf,
}

/// The tools of this checkout, as the variable `EVENTIDE_TOOLS` names them; cargo sets it.
///
/// # Errors
/// [`Error::NoTools`] where the variable is not set.
pub fn tools() -> Result<Tools> {
    let folder = std::env::var_os("EVENTIDE_TOOLS").ok_or(Error::NoTools)?;
    Ok(Tools { folder: PathBuf::from(folder) })
}

impl Tools {
    /// The tools in a folder.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder itself, for programs that take it as a setting.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The `ffmpeg` program.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn ffmpeg(&self) -> Result<PathBuf> {
        self.find("ffmpeg")
    }

    /// The `ffprobe` program.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn ffprobe(&self) -> Result<PathBuf> {
        self.find("ffprobe")
    }

    /// The ONNX Runtime library.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn onnx_runtime(&self) -> Result<PathBuf> {
        self.find("libonnxruntime.so")
    }

    /// T5's own SentencePiece model.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn t5_tokenizer(&self) -> Result<PathBuf> {
        self.find("t5/spiece.model")
    }

    /// The folder of a Whisper's weights: `base` or `tiny-en`.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn whisper(&self, size: &str) -> Result<PathBuf> {
        self.find(&format!("whisper/{size}"))
    }

    /// Silero's voice detector.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn voice_detector(&self) -> Result<PathBuf> {
        self.find("silero-vad/silero_vad_16k_sequence.onnx")
    }

    /// A recording of speech, `two_cities.wav` or `beckett.wav`, or of music, `big-buck-bunny-trailer.mp4`.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn recording(&self, name: &str) -> Result<PathBuf> {
        self.find(&format!("recordings/{name}"))
    }

    /// `weed`, the S3 server.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn weed(&self) -> Result<PathBuf> {
        self.find("weed")
    }

    /// `java`.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn java(&self) -> Result<PathBuf> {
        self.find("java")
    }

    /// METEOR 1.5's own program, with its data beside it.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn meteor(&self) -> Result<PathBuf> {
        self.find("meteor/meteor-1.5.jar")
    }

    /// A Python interpreter with `deltalake`, `duckdb`, `pyarrow` and ADBC's driver of Flight SQL.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn python(&self) -> Result<PathBuf> {
        self.find("python")
    }

    /// A script of Node.js with Playwright and axe-core at hand, which drives the machine's Chromium. It finds them by
    /// the variables `PLAYWRIGHT`, `AXE` and `CHROMIUM`.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn browser_script(&self, script: &Path) -> Result<Program> {
        let node = self.find("playwright/node")?;
        let variables = [
            ("PLAYWRIGHT", self.find("playwright/playwright-core")?),
            ("AXE", self.find("axe.min.js")?),
            ("CHROMIUM", self.find("chromium")?),
        ];
        Ok(Program::new(node).arguments([script]).environment(variables))
    }

    /// Runs `ffmpeg` with these arguments, which overwrite what is there.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], or [`Error::Failed`] with what it said.
    pub fn run_ffmpeg<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        let mut command = Command::new(self.ffmpeg()?);
        output(
            command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]).args(arguments),
        )
        .map(|_| ())
    }

    /// Runs Python code with the readers at hand and gives what it printed.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], or [`Error::Failed`] with what it said.
    pub fn run_python<A: AsRef<OsStr>>(
        &self,
        code: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        let code = format!("{code}{LEAVE_AT_ONCE}");
        output(Command::new(self.python()?).args(["-c", &code]).args(arguments))
    }

    /// Runs Python code with `kubernetes_validate` and `yaml` at hand and gives what it printed.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], or [`Error::Failed`] with what it said.
    pub fn run_validator<A: AsRef<OsStr>>(
        &self,
        code: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        output(Command::new(self.find("python-manifests")?).args(["-c", code]).args(arguments))
    }

    /// The program that answers as Elasticsearch does.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn search_engine(&self) -> Result<PathBuf> {
        self.find("noida-db")
    }

    /// The folder of a text encoder, MiniLM, as sentence-transformers has it.
    ///
    /// # Errors
    /// [`Error::MissingTool`].
    pub fn text_encoder(&self) -> Result<PathBuf> {
        self.find("minilm")
    }

    /// Runs Python code with the official client of Elasticsearch, and gives what it prints.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], or [`Error::Failed`] with what it said.
    pub fn run_search_client<A: AsRef<OsStr>>(
        &self,
        code: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        output(Command::new(self.find("python-search")?).args(["-c", code]).args(arguments))
    }

    /// Runs Python code with `duckdb`, its full-text search and `tantivy` at hand, and gives what it prints.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], or [`Error::Failed`] with what it said.
    pub fn run_search_engines<A: AsRef<OsStr>>(
        &self,
        code: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        let code = format!("{code}{LEAVE_AT_ONCE}");
        output(Command::new(self.find("python-engines")?).args(["-c", &code]).args(arguments))
    }

    /// Has Groonga run the commands in a file on a new database below a folder, and gives its answers, one a line.
    ///
    /// # Errors
    /// [`Error::MissingTool`], [`Error::Start`], or [`Error::Failed`] with what it said.
    pub fn run_groonga(&self, folder: &Path, commands: &Path) -> Result<String> {
        let mut command = Command::new(self.find("groonga")?);
        command.arg("--log-path").arg(folder.join("groonga.log")).arg("--file").arg(commands);
        output(command.arg("-n").arg(folder.join("groonga.db")))
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.exists() { Ok(path) } else { Err(Error::MissingTool { path }) }
    }
}

/// The end of all Python code: the readers' native threads now and then abort an interpreter that is torn down in good
/// order ("terminate called without an active exception"), after everything was said.
const LEAVE_AT_ONCE: &str = "\nimport os, sys\nsys.stdout.flush()\nos._exit(0)\n";

/// Runs a command to its end and gives its standard output.
fn output(command: &mut Command) -> Result<String> {
    let program = PathBuf::from(command.get_program());
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Failed { program, status: output.status, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_says_how_to_get_it() {
        let error = Tools::in_folder("/nowhere").ffmpeg().unwrap_err().to_string();
        assert_eq!(error, "`/nowhere/ffmpeg` is missing: run `cargo xtask setup`");
    }

    #[test]
    fn the_readers_can_be_loaded() {
        let code =
            "import deltalake, duckdb, pyarrow; print(duckdb.sql('SELECT 6 * 7').fetchone()[0])";
        assert_eq!(tools().unwrap().run_python(code, [""; 0]).unwrap(), "42\n");
    }

    #[test]
    fn a_failed_tool_shows_what_it_said() {
        let error = tools().unwrap().run_ffmpeg(["-i", "/nowhere.mp4"]).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }
}
