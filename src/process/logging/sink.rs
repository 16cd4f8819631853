//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use super::LogError;

/// Stderr, a file, both or neither.
#[derive(Debug)]
pub struct Sink {
    stderr: bool,
    file: Mutex<Option<LogFile>>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
}

impl Sink {
    pub fn new(stderr: bool, logfile: Option<&Path>) -> Result<Self, LogError> {
        Ok(Sink {
            stderr,
            file: Mutex::new(logfile.map(LogFile::open).transpose()?),
        })
    }

    pub fn set_logfile(&self, logfile: Option<&Path>) -> Result<(), LogError> {
        let new = logfile.map(LogFile::open).transpose()?;
        *self.file() = new;
        Ok(())
    }

    pub fn reopen(&self) -> Result<(), LogError> {
        let mut file = self.file();
        if let Some(old) = file.as_mut() {
            *old = LogFile::open(&old.path)?;
        }
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, Option<LogFile>> {
        // A panic between two lines leaves nothing half done.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let lost = match self.file().as_mut() {
            Some(log) => log.file.write_all(line).is_err(),
            None => false,
        };
        if self.stderr || lost {
            // Nobody is left to be told when stderr fails as well.
            let _ = io::stderr().lock().write_all(line);
        }
    }
}

impl LogFile {
    fn open(path: &Path) -> Result<Self, LogError> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        match opened {
            Ok(file) => Ok(LogFile {
                path: path.to_owned(),
                file,
            }),
            Err(error) => Err(LogError::Open {
                path: path.to_owned(),
                error,
            }),
        }
    }
}

/// Gives each event its [`Sink`]. The subscriber hands over whole lines.
pub struct Writer(pub Arc<Sink>);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> &'a Sink {
        &self.0
    }
}

impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
