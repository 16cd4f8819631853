//! How the threads of the process speak to the workers, and these to each other.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Command;

/// All workers of the process, as one of them knows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Crew {
    number: usize,
    mailboxes: Arc<[mpsc::UnboundedSender<Command>]>,
}

/// Where a worker's mail comes in.
pub type Mailbox = mpsc::UnboundedReceiver<Command>;

impl Crew {
    /// A crew of `size` workers, at least one: each one's own view of it, with
    /// its mailbox.
    pub fn assemble(size: usize) -> Vec<(Crew, Mailbox)> {
        let (senders, mailboxes): (Vec<_>, Vec<_>) =
            (0..size.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let senders: Arc<[_]> = senders.into();
        let view = |(number, mailbox)| {
            let mailboxes = senders.clone();
            (Crew { number, mailboxes }, mailbox)
        };
        mailboxes.into_iter().enumerate().map(view).collect()
    }

    /// Which of them this is, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    pub fn size(&self) -> usize {
        self.mailboxes.len()
    }

    /// The numbers of all.
    pub fn everyone(&self) -> std::ops::Range<usize> {
        0..self.size()
    }

    /// The number of the one after this one, all around.
    pub fn next(&self) -> usize {
        (self.number + 1) % self.size()
    }

    /// The numbers of the others.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.number;
        self.everyone().filter(move |&number| number != own)
    }

    /// Sends to a worker. What was sent to one that has ended comes back.
    pub fn tell(&self, worker: usize, command: Command) -> Result<(), Command> {
        match self.mailboxes.get(worker) {
            Some(mailbox) => mailbox.send(command).map_err(|unsent| unsent.0),
            None => Err(command),
        }
    }
}
