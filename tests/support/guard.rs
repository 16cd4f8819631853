use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Ends a process and removes a directory when this test process is gone,
/// however it went: statics are not dropped, and a killed test drops nothing.
///
/// A shell holds the other end of a pipe; the end of the pipe is its signal.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Sends `signal` (as `kill` names it) to `pid` when the guard goes, then
    /// removes `dir`.
    pub fn new(pid: u32, signal: &str, dir: Option<&Path>) -> Guard {
        // A line on the pipe instead of its end says that nothing is left to do.
        // A dead process that nobody waits for has no /proc/PID/exe.
        let script = r#"
            trap '' INT TERM HUP
            read -r line && exit
            kill -s "$2" "$1" 2>/dev/null
            kill -s CONT "$1" 2>/dev/null
            [ -n "$3" ] || exit
            tries=0
            while [ -e "/proc/$1/exe" ] && [ $tries -lt 100 ]; do
                tries=$((tries + 1))
                sleep 0.05
            done
            rm -rf "$3""#;
        let mut shell = Command::new("sh")
            .args(["-c", script, "guard", &pid.to_string(), signal])
            .arg(dir.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let pipe = shell.stdin.take();
        Guard { shell, pipe }
    }

    /// The process has ended and been waited for: its number may be another's.
    pub fn release(mut self) {
        use std::io::Write;
        if let Some(pipe) = &mut self.pipe {
            let _ = pipe.write_all(b"gone\n");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
