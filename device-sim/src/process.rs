//! The product's processes as children of the demo: started, watched, ended.
//!
//! None may outlive the simulator, however it ends. Each child leads a process group of its own, so that a Ctrl-C at
//! the terminal reaches the simulator alone, which then ends them in order. And each has a guard: a shell that holds
//! the other end of a pipe of ours and does nothing but read. If the simulator dies, even by SIGKILL, the kernel closes
//! the pipe, the read ends, and the guard ends the group: SIGTERM, and SIGKILL after ten seconds.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// A child that has not ended this long after SIGTERM is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A command that is to end by itself is given up after this.
const COMMAND_WITHIN: Duration = Duration::from_secs(120);

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lines of a log shown when its process failed.
const LOG_SHOWN: usize = 15;

/// The guard of a group: `$0` is the group. It tries for as long as [`STOP_WITHIN`] says.
const GUARD: &str = r#"read -r _ && exit 0
kill -s TERM -- "-$0" 2>/dev/null
n=0
while kill -s 0 -- "-$0" 2>/dev/null && [ "$n" -lt 100 ]; do sleep 0.1; n=$((n+1)); done
kill -s KILL -- "-$0" 2>/dev/null"#;

/// Why a process is not as it should be.
#[derive(Debug, Error)]
pub enum ProcessError {
    #[error("cannot start {program}: {source}")]
    Start {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("cannot write log {path}: {source}")]
    Log {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{name} ended by itself ({status}); the end of {log}:\n{tail}")]
    Ended {
        name: String,
        status: String,
        log: PathBuf,
        tail: String,
    },
    #[error("{name} failed ({status}); the end of {log}:\n{tail}")]
    Failed {
        name: String,
        status: String,
        log: PathBuf,
        tail: String,
    },
    #[error("{name} is not ready after {waited:?}; the end of {log}:\n{tail}")]
    NotReady {
        name: String,
        waited: Duration,
        log: PathBuf,
        tail: String,
    },
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The word for it in messages; its log is `<name>.log`.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub envs: Vec<(String, String)>,
}

/// A running child. Dropped, it is killed at once.
#[derive(Debug)]
struct Child {
    name: String,
    log: PathBuf,
    process: std::process::Child,
    guard: std::process::Child,
}

impl Child {
    fn start(run: &Program, logs: &Path) -> Result<Child, ProcessError> {
        let log = logs.join(format!("{}.log", run.name));
        let open = || -> std::io::Result<(File, File)> {
            std::fs::create_dir_all(logs)?;
            let file = OpenOptions::new().create(true).append(true).open(&log)?;
            Ok((file.try_clone()?, file))
        };
        let (out, err) = open().map_err(|source| ProcessError::Log {
            path: log.clone(),
            source,
        })?;
        let started = Command::new(&run.program)
            .args(&run.args)
            .envs(run.envs.iter().cloned())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn();
        let failed = |source| ProcessError::Start {
            program: run.program.clone(),
            source,
        };
        let mut process = started.map_err(failed)?;
        match guard_of(process.id()) {
            Ok(guard) => Ok(Child {
                name: run.name.clone(),
                log,
                process,
                guard,
            }),
            Err(source) => {
                let _killed = process.kill().and_then(|()| process.wait());
                Err(failed(source))
            }
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Ends the child: SIGTERM, then SIGKILL when it takes too long. False when it had to be killed.
    async fn stop(mut self) -> bool {
        signal_group("TERM", self.process.id());
        let ends = async {
            while self.ended().is_none() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(STOP_WITHIN, ends).await.is_ok()
    }

    fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_none() {
            signal_group("KILL", self.process.id());
            let _killed = self.process.kill().and_then(|()| self.process.wait());
        }
        // A line tells the guard that all is well; it is waited for, so that nothing is left behind.
        let _told = self
            .guard
            .stdin
            .take()
            .map(|mut pipe| pipe.write_all(b"\n"));
        let _gone = self.guard.wait();
    }
}

/// Sends a signal to a whole process group: the standard library can only kill one process.
fn signal_group(signal: &str, group: u32) {
    let group = format!("-{group}");
    let mut kill = Command::new("sh");
    let sent = kill
        .args(["-c", r#"kill -s "$0" -- "$1" 2>/dev/null"#, signal, &group])
        .status();
    if let Err(error) = sent {
        tracing::error!(%error, "no shell to send a signal with");
    }
}

fn guard_of(group: u32) -> std::io::Result<std::process::Child> {
    Command::new("sh")
        .args(["-c", GUARD, &group.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_SHOWN)..].join("\n")
}

/// All children of the demo.
#[derive(Debug, Clone)]
pub struct Household {
    logs: PathBuf,
    children: Arc<Mutex<Vec<Child>>>,
}

impl Household {
    /// No children yet; their logs go to `logs`.
    pub fn new(logs: &Path) -> Household {
        Household {
            logs: logs.to_owned(),
            children: Arc::default(),
        }
    }

    /// Runs a command to its end.
    pub async fn run(&self, run: &Program) -> Result<(), ProcessError> {
        let mut child = Child::start(run, &self.logs)?;
        let ends = async {
            loop {
                if let Some(status) = child.ended() {
                    return status;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let status = match tokio::time::timeout(COMMAND_WITHIN, ends).await {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(_late) => format!("not done after {COMMAND_WITHIN:?}"),
        };
        Err(ProcessError::Failed {
            name: run.name.clone(),
            status,
            log: child.log.clone(),
            tail: child.tail(),
        })
    }

    /// Starts a child and waits until `ready` has an answer.
    pub async fn start<T>(
        &self,
        run: &Program,
        longest: Duration,
        ready: impl Fn() -> Option<T>,
    ) -> Result<T, ProcessError> {
        let child = Child::start(run, &self.logs)?;
        let (name, log) = (child.name.clone(), child.log.clone());
        self.lock().push(child);
        let waits = async {
            loop {
                if let Some(answer) = ready() {
                    return answer;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let late = |_| ProcessError::NotReady {
            name,
            waited: longest,
            tail: tail(&log),
            log,
        };
        tokio::time::timeout(longest, waits).await.map_err(late)
    }

    /// Waits until a child ends, which none should.
    pub async fn until_one_ends(&self) -> ProcessError {
        loop {
            if let Some(error) = self.lock().iter_mut().find_map(ended_by_itself) {
                return error;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends all, the last started first; names those that had to be killed.
    pub async fn stop(&self) -> Vec<String> {
        let mut killed = Vec::new();
        loop {
            let next = self.lock().pop();
            let Some(child) = next else { return killed };
            let name = child.name.clone();
            if !child.stop().await {
                killed.push(name);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended_by_itself(child: &mut Child) -> Option<ProcessError> {
    let status = child.ended()?.to_string();
    Some(ProcessError::Ended {
        name: child.name.clone(),
        status,
        log: child.log.clone(),
        tail: child.tail(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::ledger::tests::Scratch;

    fn shell(name: &str, script: &str) -> Program {
        let args = vec!["-c".to_owned(), script.to_owned()];
        Program {
            name: name.to_owned(),
            program: "/bin/sh".into(),
            args,
            envs: Vec::new(),
        }
    }

    fn alive(pid: &str) -> bool {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    async fn until_dead(pid: &str) {
        while alive(pid) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_shows_the_end_of_its_log() {
        let scratch = Scratch::new("process-fails");
        let household = Household::new(&scratch.0);
        household.run(&shell("good", "true")).await.unwrap();
        let error = household
            .run(&shell("bad", "echo the reason >&2; exit 3"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("bad failed") && error.contains("3") && error.contains("the reason"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_child_is_awaited_ended_in_order_and_takes_its_own_children_along() {
        let scratch = Scratch::new("process-stop");
        let (household, pids) = (Household::new(&scratch.0), scratch.0.join("pids"));
        let script = format!(
            "sleep 1000 & echo $! > {0}.tmp; mv {0}.tmp {0}; wait",
            pids.display()
        );
        let read = || std::fs::read_to_string(&pids).ok();
        let pid = household
            .start(&shell("sleeper", &script), Duration::from_secs(60), read)
            .await
            .unwrap();
        assert!(alive(&pid));
        assert!(household.stop().await.is_empty(), "went by SIGTERM");
        until_dead(&pid).await;
    }

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_told() {
        let scratch = Scratch::new("process-ends");
        let household = Household::new(&scratch.0);
        household
            .start(
                &shell("short", "echo gone; exit 7"),
                Duration::from_secs(60),
                || Some(()),
            )
            .await
            .unwrap();
        let error = household.until_one_ends().await.to_string();
        assert!(
            error.contains("short ended by itself") && error.contains("gone"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_guard_ends_the_group_when_its_pipe_closes() {
        let mut process = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let mut guard = guard_of(process.id()).unwrap();
        drop(guard.stdin.take());
        let status = process.wait().unwrap();
        assert!(!status.success(), "ended by the guard's signal");
        guard.wait().unwrap();
    }

    #[tokio::test]
    async fn the_guard_leaves_the_group_alone_when_told_that_all_is_well() {
        let mut process = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let mut guard = guard_of(process.id()).unwrap();
        guard.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(guard.wait().unwrap().success());
        assert!(process.try_wait().unwrap().is_none(), "still there");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
