//! `cargo xtask setup`: what building, testing and the demo need, found or installed, and linked into `target/tools`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;

use crate::children;
use crate::error::{Error, Result};
use crate::fetch::obtain;
use crate::parts::{self, Part, PythonSet};
use crate::python::environment;
use crate::workspace::{Workspace, create_folder, say, write};

/// What to prepare for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// Building the program, indexing and hearing with it.
    Demo,
    /// That, and for tests the S3 server, a browser, METEOR and the other readers of our tables.
    Test,
}

/// A program that the machine should have.
struct Required {
    program: &'static str,
    /// The Debian package that has it.
    package: &'static str,
    /// Answers whether it is there in working order.
    works: fn() -> bool,
    /// What to use where it cannot be installed, and the program's path in that part.
    instead: Option<(Part, &'static str)>,
}

static REQUIRED: [Required; 5] = [
    Required {
        program: "c++",
        package: "g++",
        works: || children::find("c++").is_some(),
        instead: None,
    },
    Required { program: "pip", package: "python3-pip", works: pip_works, instead: None },
    Required {
        program: "cmake",
        package: "cmake",
        works: || children::find("cmake").is_some(),
        instead: Some((parts::CMAKE, "bin/cmake")),
    },
    Required {
        program: "ffmpeg",
        package: "ffmpeg",
        works: || children::find("ffmpeg").is_some(),
        instead: Some((parts::FFMPEG, "ffmpeg")),
    },
    Required {
        program: "ffprobe",
        package: "ffmpeg",
        works: || children::find("ffprobe").is_some(),
        instead: Some((parts::FFPROBE, "ffprobe")),
    },
];

/// What `eventide-decoder` is built against. Only the workspace as a whole needs it, so that the demo does without.
static LIBRARIES: [Required; 3] = [
    Required {
        program: "pkg-config",
        package: "pkg-config",
        works: || children::find("pkg-config").is_some(),
        instead: None,
    },
    Required {
        program: "libavfilter",
        package: "libavfilter-dev",
        works: || knows_library("libavfilter") && knows_library("libavformat"),
        instead: None,
    },
    Required { program: "libclang", package: "libclang-dev", works: libclang_works, instead: None },
];

/// What METEOR runs on. Any will do, so that none is installed: that would take ten times what the part weighs.
const JAVA: Required = Required {
    program: "java",
    package: "default-jre-headless",
    works: || children::find("java").is_some(),
    instead: Some((parts::JAVA, "java-runtime/bin/java")),
};

/// The browser that the page is tested in. Nothing stands in for it.
static BROWSER: Required = Required {
    program: "chromium",
    package: "chromium",
    works: || children::find("chromium").is_some(),
    instead: None,
};

/// A search engine into which exported files are loaded.
static GROONGA: Required = Required {
    program: "groonga",
    package: "groonga-bin",
    works: || children::find("groonga").is_some(),
    instead: None,
};

impl Scope {
    /// The programs that the machine should have.
    fn required(self) -> impl Iterator<Item = &'static Required> {
        let for_tests = LIBRARIES.iter().chain([&BROWSER, &GROONGA]);
        REQUIRED.iter().chain(for_tests.filter(move |_| self == Self::Test))
    }
}

/// Prepares the machine and this checkout.
pub(crate) fn run(workspace: &Workspace, scope: Scope) -> Result<()> {
    let lock = workspace.lock()?;
    create_folder(&workspace.tools().join("t5"))?;
    install_missing(scope)?;
    for required in &REQUIRED {
        link_program(workspace, required)?;
    }
    link_part(workspace, &parts::ONNX_RUNTIME, "libonnxruntime.so", "libonnxruntime.so")?;
    link_part(workspace, &parts::T5_TOKENIZER, "spiece.model", "t5/spiece.model")?;
    link_speech(workspace, &SPEECH)?;
    if scope == Scope::Test {
        link_part(workspace, &parts::SEAWEEDFS, "weed", "weed")?;
        link_part(workspace, &parts::SEARCH_ENGINE, "noida-db", "noida-db")?;
        if let Some(browser) = children::find(BROWSER.program) {
            link(workspace, &browser, BROWSER.program)?;
        }
        link_part(workspace, &parts::PLAYWRIGHT, "playwright", "playwright")?;
        link_part(workspace, &parts::AXE, "axe.min.js", "axe.min.js")?;
        link_part(workspace, &parts::TEXT_ENCODER, ".", "minilm")?;
        link_program(workspace, &JAVA)?;
        link_part(workspace, &parts::METEOR, "meteor", "meteor")?;
        link_python(workspace, &parts::READERS, "python")?;
        link_python(workspace, &parts::MANIFESTS, "python-manifests")?;
        link_python(workspace, &parts::SEARCH_CLIENT, "python-search")?;
        link_python(workspace, &parts::SEARCH_ENGINES, "python-engines")?;
        let groonga = children::find(GROONGA.program);
        if let Some(groonga) = groonga.filter(|found| !found.starts_with(workspace.tools())) {
            link(workspace, &groonga, GROONGA.program)?;
        }
        link_speech(workspace, &SPEECH_TESTS)?;
    }
    drop(lock);
    Ok(())
}

/// Installs what is missing with apt, where that is possible, and refuses where nothing else would do.
fn install_missing(scope: Scope) -> Result<()> {
    let missing: Vec<_> = scope.required().filter(|required| !(required.works)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if is_root() && children::find("apt-get").is_some() {
        let packages = packages(&missing);
        say("apt", &format!("install {}", packages.join(" ")));
        children::output(apt().arg("update"))?;
        children::output(
            apt().args(["install", "--yes", "--no-install-recommends"]).args(packages),
        )?;
        return Ok(());
    }
    let hopeless: Vec<&Required> =
        missing.into_iter().filter(|required| required.instead.is_none()).collect();
    if hopeless.is_empty() {
        return Ok(());
    }
    Err(Error::Missing {
        programs: hopeless.iter().map(|required| required.program).collect::<Vec<_>>().join(", "),
        packages: packages(&hopeless).join(" "),
    })
}

fn packages(missing: &[&Required]) -> Vec<&'static str> {
    let mut packages: Vec<_> = missing.iter().map(|required| required.package).collect();
    packages.dedup();
    packages
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn pip_works() -> bool {
    children::output(Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
}

/// Whether programs can be built against a library.
fn knows_library(name: &str) -> bool {
    children::output(Command::new("pkg-config").args(["--exists", name])).is_ok()
}

/// Whether Debian's package of the headers' reader is there, or a folder with one is named.
fn libclang_works() -> bool {
    let installed = || {
        let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let llvm =
            folders.filter(|folder| folder.file_name().to_string_lossy().starts_with("llvm-"));
        llvm.map(|folder| folder.path().join("lib/libclang.so")).any(|library| library.exists())
    };
    std::env::var_os("LIBCLANG_PATH").is_some() || installed()
}

/// Root owns its own process folder.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

/// Links the machine's program, or the one that stands in for it. What only the build uses (the compiler, pip) needs
/// no link.
fn link_program(workspace: &Workspace, required: &Required) -> Result<()> {
    let Some((part, path)) = &required.instead else { return Ok(()) };
    match children::find(required.program) {
        Some(found) if !found.starts_with(workspace.tools()) => {
            link(workspace, &found, required.program)
        }
        _ => link_part(workspace, part, path, required.program),
    }
}

fn link_part(workspace: &Workspace, part: &Part, path: &str, name: &str) -> Result<()> {
    let folder = obtain(workspace, part)?;
    link(workspace, &folder.join(path), name)
}

/// Makes `target/tools/NAME` a link to `target`, in one step, so that nobody finds it missing.
fn link(workspace: &Workspace, target: &Path, name: &str) -> Result<()> {
    let place = workspace.tools().join(name);
    if fs::read_link(&place).is_ok_and(|found| found == target) {
        return Ok(());
    }
    say("link", &format!("{name} -> {}", target.display()));
    let draft = place.with_file_name(format!(".{}.link", std::process::id()));
    symlink(target, &draft).map_err(Error::file("link", &draft))?;
    fs::rename(&draft, &place).map_err(Error::file("rename", &draft))
}

/// What recognises speech.
const SPEECH: [(&Part, &str); 3] = [
    (&parts::WHISPER_BASE_1, "whisper/base"),
    (&parts::WHISPER_BASE_2, "whisper/base"),
    (&parts::VOICE_DETECTOR, "silero-vad"),
];
/// What that is tested with besides.
const SPEECH_TESTS: [(&Part, &str); 3] = [
    (&parts::WHISPER_TINY_ENGLISH, "whisper/tiny-en"),
    (&parts::RECORDINGS, "recordings"),
    // Music without words.
    (&parts::BIG_BUCK_BUNNY, "recordings"),
];

/// Links parts of speech recognition to their folders.
fn link_speech(workspace: &Workspace, parts: &[(&Part, &str)]) -> Result<()> {
    for (part, folder) in parts {
        create_folder(&workspace.tools().join(folder))?;
        for take in part.takes {
            link_part(workspace, part, take.kept, &format!("{folder}/{}", take.kept))?;
        }
    }
    Ok(())
}

/// A script, since an environment's interpreter finds its packages by the path that it is started by.
fn link_python(workspace: &Workspace, set: &PythonSet, name: &str) -> Result<()> {
    let interpreter = environment(workspace, set)?;
    let place = workspace.tools().join(name);
    let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", interpreter.display());
    if fs::read_to_string(&place).is_ok_and(|found| found == script) {
        return Ok(());
    }
    say("link", &format!("{name} -> {}", interpreter.display()));
    let draft = place.with_file_name(format!(".{}.script", std::process::id()));
    write(&draft, script)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("make a program of", &draft))?;
    fs::rename(&draft, &place).map_err(Error::file("rename", &draft))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_of_two_programs_is_installed_once() {
        let missing: Vec<_> = Scope::Demo.required().collect();
        assert_eq!(packages(&missing), ["g++", "python3-pip", "cmake", "ffmpeg"]);
    }

    #[test]
    fn a_browser_is_for_tests() {
        let needs = |scope: Scope| scope.required().any(|required| required.program == "chromium");
        assert!(needs(Scope::Test) && !needs(Scope::Demo));
    }
}
