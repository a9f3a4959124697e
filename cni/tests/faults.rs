//! Plugins that fail, hang, babble, crash or lie: each is bounded, told clearly, and leaves no process behind.

mod support;

use std::time::{Duration, Instant};

use cni::{CniError, Command, Kind, Stream};
use runtime_sys::pidfd::{self, Exit};
use runtime_sys::spawn::Spawn;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use support::{Lab, PATIENCE, attachment, ended, has_ended, network, text, until};

/// Short enough for a test, long enough for a loaded machine to start a shell.
const SHORT: Duration = Duration::from_secs(2);

fn one() -> Value {
    json!([{ "type": "one" }])
}

async fn add(lab: &Lab) -> CniError {
    lab.invoker().add(&network("1.0.0", &one()), &attachment()).await.expect_err("the plugin is bad")
}

#[tokio::test]
async fn a_failure_stops_the_chain_and_is_told_in_the_plugins_words() {
    let lab = Lab::new();
    lab.script(
        "one",
        r#"cat > /dev/null; echo reason >&2; printf %s \
           '{"cniVersion":"1.0.0","code":7,"msg":"no address left","details":"range\n10.0.0.0/30"}'; exit 1"#,
    );
    lab.plugin("two", &json!({}));
    let both = network("1.0.0", &json!([{ "type": "one" }, { "type": "two" }]));
    let error = lab.invoker().add(&both, &attachment()).await.unwrap_err();
    let expected =
        "CNI plugin one failed at ADD with code 7: no address left; range\\n10.0.0.0/30 (stderr: reason)";
    assert_eq!(error.to_string(), expected);
    assert_eq!((error.kind(), error.code()), (Kind::Plugin, Some(7)));
    assert_eq!(lab.calls(), [""; 0]);
    assert!(!lab.cache_file().exists());
    let error = lab.invoker().del(&both, &attachment(), None).await.unwrap_err();
    assert_eq!(error.code(), Some(7));
    assert_eq!(lab.calls(), ["DEL two"]);
}

#[tokio::test]
async fn codes_of_the_specification_are_understood() {
    let lab = Lab::new();
    lab.script("one", r#"echo '{"code":11,"msg":"busy"}'; exit 1"#).plugin("two", &json!({}));
    assert_eq!(add(&lab).await.kind(), Kind::TryAgain);
    // "Container unknown" from DEL is as good as success.
    lab.script("one", r#"echo '{"code":3,"msg":"unknown"}'; exit 1"#);
    let both = network("1.0.0", &json!([{ "type": "two" }, { "type": "one" }]));
    lab.invoker().del(&both, &attachment(), None).await.unwrap();
    assert_eq!(lab.calls(), ["DEL two"]);
    lab.script("one", r#"echo '{"code":50,"msg":"not ready"}'; exit 1"#);
    let error = lab.invoker().status(&network("1.1.0", &one())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TryAgain);
}

#[tokio::test]
async fn gc_calls_all_plugins_and_tells_the_first_failure() {
    let lab = Lab::new();
    lab.script("one", r#"echo '{"code":99,"msg":"first"}'; exit 1"#).plugin("two", &json!({}));
    let both = network("1.1.0", &json!([{ "type": "one" }, { "type": "two" }]));
    assert_eq!(lab.invoker().gc(&both, &[]).await.unwrap_err().code(), Some(99));
    assert_eq!(lab.calls(), ["GC two"]);
}

#[tokio::test]
async fn a_hanging_plugin_is_killed_with_its_children() {
    let lab = Lab::new();
    lab.script(
        "one",
        "(sleep 1000 & echo $! > $LOG/grandchild; wait) & echo $$ > $LOG/self; echo waiting >&2; wait",
    );
    let started = Instant::now();
    let error = lab.invoker_with(SHORT).add(&network("1.0.0", &one()), &attachment()).await.unwrap_err();
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(error.kind(), Kind::Timeout);
    assert_eq!(
        error.to_string(),
        "CNI plugin one did not finish ADD within 2s and was killed (stderr: waiting)"
    );
    ended(lab.pid("self").await).await;
    ended(lab.pid("grandchild").await).await;
}

#[tokio::test]
async fn a_dropped_call_takes_its_processes_with_it() {
    let lab = Lab::new();
    lab.script("one", "sleep 1000 & echo $! > $LOG/child; echo $$ > $LOG/self; wait");
    let (network, at, invoker) = (network("1.0.0", &one()), attachment(), lab.invoker());
    let started = async {
        let (plugin, child) = (lab.pid("self").await, lab.pid("child").await);
        assert!(!has_ended(plugin) && !has_ended(child));
    };
    tokio::select! {
        // Cancel-safe: that is what is tested.
        added = invoker.add(&network, &at) => panic!("it hangs, yet {added:?}"),
        // Cancel-safe: polls files.
        () = started => {}
    }
    ended(lab.pid("self").await).await;
    ended(lab.pid("child").await).await;
}

#[tokio::test]
async fn a_babbling_plugin_is_stopped() {
    let lab = Lab::new();
    lab.script("one", "echo $$ > $LOG/self; exec yes");
    let error = add(&lab).await;
    assert!(matches!(error, CniError::TooMuchOutput { stream: Stream::Stdout, .. }), "{error:?}");
    ended(lab.pid("self").await).await;
    lab.script("one", "exec yes >&2");
    let error = add(&lab).await;
    assert!(matches!(error, CniError::TooMuchOutput { stream: Stream::Stderr, .. }), "{error:?}");
}

#[tokio::test]
async fn of_a_long_log_the_end_is_told() {
    let lab = Lab::new();
    lab.script("one", "yes beginning | head -c 1000000 >&2; echo 'the reason' >&2; exit 3");
    let error = add(&lab).await.to_string();
    assert!(error.contains("exit code 3 at ADD without saying why"), "{error}");
    assert!(error.ends_with("the reason)") && error.len() < 2000, "{error}");
}

#[tokio::test]
async fn a_crash_is_told_with_its_signal() {
    let lab = Lab::new();
    lab.script("one", "sleep 1000 & echo $! > $LOG/child; kill -SEGV $$");
    let error = add(&lab).await;
    assert!(
        matches!(error, CniError::Crashed { exit: Exit::Signal(11), command: Command::Add, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("was ended by signal 11"), "{error}");
    ended(lab.pid("child").await).await;
}

#[tokio::test]
async fn answers_that_are_no_results_are_told() {
    let table = [
        ("", "it wrote nothing"),
        ("echo hello", "no CNI result: hello: not JSON"),
        ("echo '[1]'", "not a JSON object"),
        (r#"echo '{"cniVersion":"0.2.0"}'"#, "\"0.2.0\" is not supported"),
        (r#"echo '{"ips":[{"address":"x"}]}'"#, "no address with a prefix length"),
        (r#"printf '\033[31m\377'"#, "\\u{1b}[31m\u{fffd}"),
        ("head -c 5000 /dev/zero | tr '\\0' a", &"a".repeat(200)),
    ];
    for (script, reason) in table {
        let lab = Lab::new();
        lab.script("one", script);
        let error = add(&lab).await;
        assert!(matches!(error, CniError::Garbage { .. }), "{script}: {error:?}");
        let text = text(&error);
        assert!(text.contains(reason) && text.len() < 600, "{script}: {text}");
        // DEL has no answer that could be wrong.
        lab.invoker().del(&network("1.0.0", &one()), &attachment(), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_failure_without_json_shows_what_was_written() {
    let lab = Lab::new();
    lab.script("one", "echo usage: one; exit 2");
    let error = add(&lab).await.to_string();
    assert_eq!(error, "CNI plugin one ended with exit code 2 at ADD without saying why (stdout: usage: one)");
}

#[tokio::test]
async fn a_plugin_need_not_read_a_big_configuration() {
    let lab = Lab::new();
    lab.script("one", "echo '{}'");
    let big = network("1.0.0", &json!([{ "type": "one", "filler": "x".repeat(900_000) }]));
    lab.invoker().add(&big, &attachment()).await.unwrap();
    lab.script("one", "wc -c > $LOG/size; echo '{}'");
    lab.invoker().add(&big, &attachment()).await.unwrap();
    assert!(lab.pid("size").await > 900_000);
}

#[tokio::test]
async fn a_plugin_that_closes_its_outputs_and_stays_is_killed() {
    let lab = Lab::new();
    lab.script("one", "echo $$ > $LOG/self; echo '{}'; exec sleep 1000 <&- >&- 2>&-");
    let error = lab.invoker_with(SHORT).add(&network("1.0.0", &one()), &attachment()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    ended(lab.pid("self").await).await;
}

#[tokio::test]
async fn a_background_process_that_holds_the_outputs_is_not_waited_for() {
    let lab = Lab::new();
    lab.script("one", "sleep 1000 & echo $! > $LOG/left; echo '{}'");
    lab.invoker().add(&network("1.0.0", &one()), &attachment()).await.unwrap();
    let left = lab.pid("left").await;
    // It succeeded, so what it left behind is its own business.
    assert!(!has_ended(left));
    let pid = Pid::from_raw(i32::try_from(left).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    ended(left).await;
}

#[tokio::test]
async fn what_cannot_be_executed_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    lab.script("one", "true");
    std::fs::set_permissions(lab.path("bin/one"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = add(&lab).await;
    assert_eq!(error.kind(), Kind::Host);
    assert!(
        text(&error).contains("cannot run CNI plugin one for ADD: Permission denied"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn a_plugin_that_is_just_being_installed_is_waited_for() {
    let lab = Lab::new();
    lab.script("one", "echo '{}'");
    let (network, at, invoker) = (network("1.0.0", &one()), attachment(), lab.invoker());
    let writer = std::fs::OpenOptions::new().append(true).open(lab.path("bin/one")).unwrap();
    let mut adding = std::pin::pin!(invoker.add(&network, &at));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut adding).await;
    drop(writer);
    match early {
        // Kernels 6.11 and 6.12 let it run.
        Ok(added) => added.map(drop).unwrap(),
        Err(_) => adding.await.map(drop).unwrap(),
    }
}

#[tokio::test]
async fn many_at_once_do_not_disturb_each_other() {
    let lab = Lab::new();
    lab.script("one", "cat > /dev/null; sleep 0.1; echo '{}'");
    let (network, invoker) = (network("1.0.0", &one()), lab.invoker());
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..32 {
        let (network, invoker) = (network.clone(), invoker.clone());
        let at = cni::Attachment { container_id: format!("c{number}"), ..attachment() };
        calls.spawn(async move { invoker.add(&network, &at).await.map(drop) });
    }
    while let Some(added) = calls.join_next().await {
        added.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_dir(lab.path("cache/results")).unwrap().count(), 32);
}

#[tokio::test]
async fn plugins_of_a_former_daemon_are_ended_for_their_container_only() {
    let lab = Lab::new();
    lab.script("one", "sleep 1000 & echo $! > $LOG/child; echo $$ > $LOG/self; wait");
    let start = |program: &std::path::Path| {
        let spawn = Spawn::new(program).inherit_env("PATH");
        spawn.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "c1").args(["1000"]).start().unwrap()
    };
    let plugin = start(&lab.path("bin/one"));
    // What a plugin starts for good has the same environment.
    let server = start(std::path::Path::new("/bin/sleep"));
    let (pid, child) = (lab.pid("self").await, lab.pid("child").await);
    // Until it runs its own program it is the plugin once more.
    let program = format!("/proc/{child}/cmdline");
    let runs_it = || std::fs::read_to_string(&program).is_ok_and(|line| line.starts_with("sleep"));
    until(|| runs_it().then_some(())).await;
    assert_eq!(lab.invoker().end_leftovers("c").await.unwrap(), 0);
    assert!(!has_ended(pid));
    assert_eq!(lab.invoker().end_leftovers("c1").await.unwrap(), 1);
    assert_eq!(pidfd::wait(plugin.pidfd()).unwrap(), Exit::Signal(9));
    ended(child).await;
    assert!(!has_ended(server.pid().as_raw_nonzero().get().cast_unsigned()));
    assert_eq!(lab.invoker().end_leftovers("c1").await.unwrap(), 0);
    pidfd::send_signal(server.pidfd(), Signal::KILL).unwrap();
    pidfd::wait(server.pidfd()).unwrap();
}
