//! What a child may not do: other files, any write, the network, other processes.
//!
//! Landlock and seccomp are laid on a thread, and a child started from that thread inherits them;
//! so nothing here needs to run between fork and exec. Resource limits, which belong to a process,
//! are set there by `child`. A kernel without Landlock or seccomp gives less: [`Sandbox::report`]
//! says what is in force.

use std::{collections::BTreeMap, fmt, io, path::Path, sync::LazyLock, thread};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as ArgLen, SeccompCmpOp as CmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// The newest Landlock rules that are asked for. An older kernel grants those that it knows.
const LANDLOCK: ABI = ABI::V6;

/// Programs and libraries lie below these; the tools may read and run what is there.
const SYSTEM: [&str; 6] = ["/usr", "/lib", "/lib64", "/bin", "/nix/store", "/gnu/store"];

/// Single files that the dynamic loader reads.
const LOADER: [&str; 2] = ["/etc/ld.so.cache", "/etc/ld.so.preload"];

/// System calls that no decoder needs. They answer `EPERM`. `socketpair` stays: starting a process
/// takes one, and it reaches nobody else.
const DENIED: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setsid,
];

/// The filter, compiled once. `None` on a processor that seccomp filters are not written for.
static FILTER: LazyLock<Option<BpfProgram>> = LazyLock::new(|| {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    #[expect(clippy::useless_conversion, reason = "c_long is i32 on some targets")]
    let number = |call: libc::c_long| i64::from(call);
    let mut rules: BTreeMap<i64, _> =
        DENIED.iter().map(|&call| (number(call), Vec::new())).collect();
    rules.insert(number(libc::SYS_setpgid), unless_own_group()?);
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture).ok()?;
    filter.try_into().ok()
});

/// A child leads a group of its own, which it makes before it becomes the tool. Any other change
/// of group is denied: these rules match it.
fn unless_own_group() -> Option<Vec<SeccompRule>> {
    let other = |argument| {
        let condition = SeccompCondition::new(argument, ArgLen::Dword, CmpOp::Ne, 0).ok()?;
        SeccompRule::new(vec![condition]).ok()
    };
    Some(vec![other(0)?, other(1)?])
}

/// How far one mechanism reaches on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// All that was asked for.
    Full,
    /// What an older kernel knows of it.
    Partial,
    /// Nothing.
    None,
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        })
    }
}

/// What holds a child back on this machine. The caller logs it once, at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxReport {
    /// Landlock: which files can be opened, TCP, signals out of the sandbox.
    pub landlock: Force,
    /// seccomp: sockets, tracing, mounts and the like.
    pub seccomp: Force,
    /// No program may gain privileges, such as by a set-user-id bit.
    pub no_new_privileges: bool,
}

impl SandboxReport {
    const NOTHING: Self =
        Self { landlock: Force::None, seccomp: Force::None, no_new_privileges: false };

    /// Whether this kernel lacks a mechanism altogether. An older form of one still holds.
    #[must_use]
    pub fn lacks_a_mechanism(&self) -> bool {
        self.landlock == Force::None || self.seccomp == Force::None || !self.no_new_privileges
    }
}

impl fmt::Display for SandboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { landlock, seccomp, no_new_privileges } = self;
        write!(f, "landlock {landlock}, seccomp {seccomp}, no new privileges {no_new_privileges}")
    }
}

/// The sandbox that every child runs in.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox;

impl Sandbox {
    /// What is in force on this machine, found by laying it on a thread that ends at once.
    #[must_use]
    pub fn report() -> SandboxReport {
        thread::Builder::new()
            .name("sandbox-report".to_owned())
            .spawn(|| restrict(Path::new("/dev/null"), Path::new("/dev/null")))
            .ok()
            .and_then(|thread| thread.join().ok())
            .and_then(Result::ok)
            .unwrap_or(SandboxReport::NOTHING)
    }
}

/// Lays the sandbox on the calling thread, for good: it, and all children that it starts, can
/// open `file`, `tool` and the system's programs and libraries for reading, and nothing else.
///
/// A mechanism that this kernel lacks is left out, and the report says so.
///
/// # Errors
/// Where `file` or `tool` cannot be opened, or the kernel has a mechanism but refuses the rules.
pub(crate) fn restrict(tool: &Path, file: &Path) -> io::Result<SandboxReport> {
    let status = landlock(tool, file)?;
    let seccomp = match FILTER.as_deref().map(seccompiler::apply_filter) {
        Some(Ok(())) => Force::Full,
        Some(Err(_)) | None => Force::None,
    };
    Ok(SandboxReport {
        landlock: match status.ruleset {
            RulesetStatus::FullyEnforced => Force::Full,
            RulesetStatus::PartiallyEnforced => Force::Partial,
            RulesetStatus::NotEnforced => Force::None,
        },
        seccomp,
        no_new_privileges: status.no_new_privs || seccomp == Force::Full,
    })
}

fn landlock(tool: &Path, file: &Path) -> io::Result<RestrictionStatus> {
    let read = AccessFs::ReadFile.into();
    let run = AccessFs::ReadFile | AccessFs::Execute;
    let mut rules = vec![PathBeneath::new(open(file)?, read), PathBeneath::new(open(tool)?, run)];
    let optional = |path: &str, access| Some(PathBeneath::new(PathFd::new(path).ok()?, access));
    rules.extend(SYSTEM.iter().filter_map(|path| optional(path, run | AccessFs::ReadDir)));
    rules.extend(LOADER.iter().filter_map(|path| optional(path, read)));
    // Standard input of a child: opening it is allowed, and there is nothing in it.
    rules.extend(optional("/dev/null", read));
    let ruleset = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rules(rules.into_iter().map(Ok::<_, landlock::RulesetError>))?
            .restrict_self()
    };
    ruleset().map_err(io::Error::other)
}

fn open(path: &Path) -> io::Result<PathFd> {
    // `PathFd` names the path in its error and buries the system's code; this keeps the code.
    std::fs::metadata(path)?;
    PathFd::new(path).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, net::TcpListener, net::TcpStream};

    /// What `attempt` answers in a thread that may read nothing but `/dev/null`.
    fn confined<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let null = Path::new("/dev/null");
        thread::spawn(move || {
            restrict(null, null).expect("the sandbox holds");
            attempt()
        })
        .join()
        .unwrap()
    }

    #[test]
    fn other_files_are_out_of_reach() {
        assert_ne!(Sandbox::report().landlock, Force::None, "this kernel lacks Landlock");
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        let path = secret.clone();
        let read = confined(move || std::fs::read(path)).unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
        let path = folder.path().join("new");
        let written = confined(move || File::create(path)).unwrap_err();
        assert_eq!(written.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read(secret).unwrap(), b"secret", "and only for that thread");
    }

    #[test]
    fn the_network_is_out_of_reach() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refused = confined(move || TcpStream::connect(address)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
        TcpStream::connect(address).expect("and only for that thread");
    }

    #[test]
    fn a_report_reads_as_a_line() {
        let report = SandboxReport { landlock: Force::Partial, ..SandboxReport::NOTHING };
        assert_eq!(report.to_string(), "landlock partial, seccomp none, no new privileges false");
    }
}
