//! This process, and work that may hang in the kernel, in a process of its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// A child of this process. It may outlive it: what hangs in the kernel does not
/// die of a signal, and a program that has such a thread of its own can't end.
#[derive(Debug)]
pub struct Worker(Pid);

impl Worker {
    /// Runs `work` in a child, which ends after it; `true` is success.
    pub fn start(work: impl FnOnce() -> bool) -> io::Result<Self> {
        // SAFETY: the child has this thread alone. The locks that others may hold are those of the
        // allocator, which the C library puts right in a child, and of standard error, which no
        // thread but this one writes to.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self(child)),
            ForkResult::Child => {
                let code = i32::from(!work());
                // SAFETY: ends the child without running what the parent has registered for its own end.
                unsafe { nix::libc::_exit(code) }
            }
        }
    }

    /// Whether it succeeded, once it has ended.
    pub fn outcome(&self) -> io::Result<Option<bool>> {
        Ok(match waitpid(self.0, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => None,
            WaitStatus::Exited(_, code) => Some(code == 0),
            _ => Some(false),
        })
    }
}

/// Has the process that `command` starts end with the thread that starts it,
/// however that ends. Processes that it starts itself live on.
pub fn end_with_us(command: &mut Command) -> &mut Command {
    let us = getpid();
    let ask = move || {
        set_pdeathsig(Signal::SIGTERM)?;
        // We may have ended before that.
        if getppid() == us { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec only system calls are made, and no memory is allocated.
    unsafe { command.pre_exec(ask) }
}

/// Asks the process `id`, a child of this one that was not waited for yet, to end.
pub fn terminate(id: u32) -> io::Result<()> {
    let id = i32::try_from(id).map_err(io::Error::other)?;
    Ok(kill(Pid::from_raw(id), Signal::SIGTERM)?)
}

/// Keeps the memory of this process out of core dumps, and from debuggers without privileges (`PR_SET_DUMPABLE(2const)`).
pub fn keep_memory_private() -> io::Result<()> {
    // SAFETY: the call takes numbers and changes nothing but this process.
    Errno::result(unsafe { nix::libc::prctl(nix::libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

/// From now on others come first when there is more to do than processors
/// (`setpriority(2)`): `nice` is from 0, as all others, to 19.
pub fn give_way(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes numbers; 0 is the process that calls.
    Errno::result(unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, nice) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_way_is_as_nice_as_it_says() {
        let nice = 7;
        assert!(outcome(move || give_way(nice).is_ok() && niceness() == Some(nice)));
    }

    /// Field 19 of `proc_pid_stat(5)`.
    fn niceness() -> Option<i32> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
    }

    #[test]
    fn a_worker_tells_whether_it_succeeded() {
        for success in [true, false] {
            assert_eq!(outcome(move || success), success);
        }
    }

    fn outcome(work: impl FnOnce() -> bool) -> bool {
        let worker = Worker::start(work).unwrap();
        loop {
            if let Some(outcome) = worker.outcome().unwrap() {
                return outcome;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
