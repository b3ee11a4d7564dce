//! How children start, end and are ended. `sh` stands for a tool that misbehaves.

use super::*;
use rstest::rstest;

fn sh(script: &str) -> Launch<'_> {
    let tool = Path::new("/bin/sh");
    Launch { tool, file: Path::new("/dev/null"), arguments: vec!["-c".into(), script.into()] }
}

async fn run_script(script: &str, limits: &Limits) -> Result<(Exit, Vec<u8>, u64), Error> {
    let mut budget = Budget::new(limits, Arc::default());
    let mut said = Vec::new();
    let mut output = keep(&mut said, limits.text);
    let exit = run(sh(script), limits, &mut budget, &mut output, &mut |_| ()).await?;
    drop(output);
    Ok((exit, said, budget.measured(()).core_ms))
}

/// Waits until no process is left in the group of `leader`.
async fn until_gone(leader: i32) {
    let leader = Pid::from_raw(leader).unwrap();
    let gone = async {
        while rustix::process::test_kill_process_group(leader).is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the group is killed");
}

/// A script that tells its process id, leaves a process behind, and never ends.
const FOR_EVER: &str = "sleep 1000 & echo $$; while :; do sleep 1000; done";

#[tokio::test]
async fn output_messages_and_time_are_reported() {
    let script = "echo out; echo one >&2; echo two >&2; i=0; \
        while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 3";
    let (exit, said, core_ms) = run_script(script, &Limits::default()).await.unwrap();
    assert_eq!(said, b"out\n");
    assert_eq!(exit.detail(), "one two");
    assert!(!exit.is_success());
    assert!(core_ms > 0, "a hundred thousand steps take some time");
}

#[tokio::test]
async fn the_environment_is_empty() {
    let (_, said, _) =
        run_script("echo ${HOME-none} ${CARGO-none}", &Limits::default()).await.unwrap();
    assert_eq!(said, b"none none\n");
}

#[tokio::test]
async fn at_the_deadline_the_whole_group_is_killed() {
    let limits = Limits { wall: Duration::from_millis(500), ..Limits::default() };
    let mut budget = Budget::new(&limits, Arc::default());
    let mut said = Vec::new();
    let mut output = keep(&mut said, 100);
    let error = run(sh(FOR_EVER), &limits, &mut budget, &mut output, &mut |_| ()).await;
    drop(output);
    assert_eq!(error.unwrap_err().reason_code(), "deadline");
    until_gone(String::from_utf8(said).unwrap().trim().parse().unwrap()).await;
}

#[tokio::test]
async fn a_dropped_future_kills_the_whole_group() {
    let limits = Limits::default();
    let mut budget = Budget::new(&limits, Arc::default());
    let (tell, told) = oneshot::channel();
    let mut tell = Some(tell);
    let mut output = move |bytes: &[u8]| {
        if let Some(tell) = tell.take() {
            tell.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
        }
        Ok(())
    };
    let mut messages = |_: &str| ();
    let leader = tokio::select! {
        ended = run(sh(FOR_EVER), &limits, &mut budget, &mut output, &mut messages) => {
            panic!("it never ends, but: {ended:?}")
        }
        leader = told => leader.unwrap(),
    };
    until_gone(leader.trim().parse().unwrap()).await;
}

#[tokio::test]
async fn what_a_leader_leaves_behind_is_killed() {
    let script = "sleep 1000 >/dev/null 2>&1 <&- & echo $$";
    // Opening `/dev/null` for writing is denied, so the pipes are closed instead.
    let script = script.replace(">/dev/null 2>&1 <&-", ">&- 2>&- <&-");
    let (_, said, _) = run_script(&script, &Limits::default()).await.unwrap();
    until_gone(String::from_utf8(said).unwrap().trim().parse().unwrap()).await;
}

#[rstest]
#[case::processor_time("while :; do :; done", "cpu_limit")]
#[case::too_much_output("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "output_limit")]
#[tokio::test]
async fn limits_hold(#[case] script: &str, #[case] reason: &str) {
    let limits = Limits { cpu: Duration::from_secs(1), text: 10_000, ..Limits::default() };
    let error = run_script(script, &limits).await.unwrap_err();
    assert_eq!(error.reason_code(), reason);
}

#[rstest]
#[case::a_write("echo x > /tmp/eventide-must-not-exist")]
#[case::another_file("cat /etc/passwd")]
#[case::a_listing("ls /tmp")]
#[tokio::test]
async fn files_are_out_of_reach(#[case] script: &str) {
    let (exit, said, _) = run_script(script, &Limits::default()).await.unwrap();
    assert!(!exit.is_success());
    assert!(exit.said(&["Permission denied", "cannot create"]), "{}", exit.detail());
    assert_eq!(said, b"");
}

#[tokio::test]
async fn the_network_is_out_of_reach() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let script = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
    let launch = Launch { tool: Path::new("/bin/bash"), ..sh(&script) };
    let limits = Limits::default();
    let mut budget = Budget::new(&limits, Arc::default());
    let exit = run(launch, &limits, &mut budget, &mut |_| Ok(()), &mut |_| ()).await.unwrap();
    assert!(exit.said(&["Operation not permitted"]), "{}", exit.detail());
    assert_eq!(listener.accept().map(drop).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn endless_messages_keep_their_end() {
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo \"$i /secret/place/a.mp4\" >&2; \
        done; printf '\\033[31m%s' end >&2; exit 1";
    let (exit, ..) = run_script(script, &Limits::default()).await.unwrap();
    let detail = exit.detail();
    assert!(detail.ends_with("[31mend"), "{detail}");
    assert!(detail.chars().count() <= 400);
    assert!(!detail.contains("/secret") && detail.contains("5000 a.mp4"), "{detail}");
}

/// Messages used to begin with a bracket that nothing closed: `[h264 no frame!`.
#[rstest]
#[case::part("[h264 @ 0x55d0c0de] [error] no frame!", "h264: no frame!")]
#[case::parts(
    "[vist#0:0/h264 @ 0x5] [dec:h264 @ 0x6] [error] no frame!",
    "h264: dec:h264: no frame!"
)]
#[case::level("[error] /secret/a.mp4: Invalid data\n[warning] cut", "a.mp4: Invalid data cut")]
#[case::brackets_of_a_name("[fatal] [my talk].mp4 @ home", "[my talk].mp4 @ home")]
fn a_message_keeps_the_name_of_who_says_it(#[case] said: &str, #[case] expected: &str) {
    assert_eq!(one_line(said), expected);
}

#[tokio::test]
async fn a_crash_has_its_signal() {
    let limits = Limits::default();
    let (exit, ..) = run_script("kill -SEGV $$", &limits).await.unwrap();
    let error = exit.broken_limit(Path::new("a.mp4"), &limits).unwrap();
    assert!(matches!(error, Error::Crashed { signal: libc::SIGSEGV, .. }), "{error:?}");
}

#[tokio::test]
async fn a_tool_that_is_not_there_is_no_passing_trouble() {
    let tool = Path::new("/no/such/tool");
    let launch = Launch { tool, file: Path::new("/dev/null"), arguments: Vec::new() };
    let limits = Limits::default();
    let mut budget = Budget::new(&limits, Arc::default());
    let error = run(launch, &limits, &mut budget, &mut |_| Ok(()), &mut |_| ()).await.unwrap_err();
    assert_eq!(error.reason_code(), "spawn_failed");
    assert!(!error.is_transient());
}

#[test]
fn lines_are_cut_wherever_the_pieces_end() {
    let mut lines = Vec::new();
    let mut line = |text: &str| lines.push(text.to_owned());
    let mut cutter = LineCutter::default();
    for piece in ["a", "b\nc", "\n\nd"] {
        cutter.push(piece.as_bytes(), &mut line);
    }
    cutter.finish(&mut line);
    assert_eq!(lines, ["ab", "c", "", "d"]);
}
