//! Names the build: a digest of what the meaning of a plan and of its rows depends on, so that the processes of a cluster
//! can tell whether they understand each other. The same sources have the same name, wherever they are compiled.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// This crate and those below it. No other changes what a plan does.
const CRATES: [&str; 6] = ["catalog", "engine", "media", "model", "pipeline", "schema"];

fn main() -> io::Result<()> {
    let own = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = own.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    let mut places = CRATES.map(|name| workspace.join("crates").join(name).join("src")).to_vec();
    places.push(workspace.join("Cargo.lock"));
    let mut files = Vec::new();
    for place in &places {
        println!("cargo:rerun-if-changed={}", place.display());
        collect(place, &mut files)?;
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        let bytes = fs::read(&file)?;
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(bytes);
        digest.update([0]);
    }
    let mut name = format!("{:x}", digest.finalize());
    name.truncate(16);
    println!("cargo:rustc-env=EVENTIDE_BUILD={name}");
    Ok(())
}

/// The files at and below a place.
fn collect(place: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if place.is_file() {
        files.push(place.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(place)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
