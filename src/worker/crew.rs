//! How the threads of the process speak to the workers, and these to each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::Command;
use crate::server::ear::Ears;

/// All workers of the process, as one of them knows them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Crew {
    number: usize,
    mailboxes: Arc<[mpsc::UnboundedSender<Command>]>,
    generation: Arc<AtomicU64>,
    ears: Arc<Ears>,
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
        let generation = Arc::default();
        let ears = Arc::<Ears>::default();
        let view = |(number, mailbox)| {
            let crew = Crew {
                number,
                mailboxes: senders.clone(),
                generation: Arc::clone(&generation),
                ears: ears.clone(),
            };
            (crew, mailbox)
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

    /// What listens for the clients of all workers.
    pub fn ears(&self) -> &Arc<Ears> {
        &self.ears
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

    /// The worker whose client was told this process id: the last byte says.
    pub fn owner(&self, pid: u32) -> usize {
        (pid & 0xff) as usize % self.size()
    }

    /// `pid` with a last byte that makes it this worker's to give.
    pub fn own_pid(&self, pid: u32) -> u32 {
        let (size, number) = (self.size() as u32, self.number as u32);
        // So many bytes are this worker's, at least four.
        let own = (0xff - number) / size + 1;
        pid & !0xff | (number + pid % own * size)
    }

    /// A generation of server connections that is newer than all there are, for
    /// [`Command::Reconnect`].
    pub fn new_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Sends to a worker. What was sent to one that has ended comes back.
    pub fn tell(&self, worker: usize, command: Command) -> Result<(), Command> {
        match self.mailboxes.get(worker) {
            Some(mailbox) => mailbox.send(command).map_err(|unsent| unsent.0),
            None => Err(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_tells_whose_client_has_it() {
        for (crew, _) in Crew::assemble(3) {
            for pid in [0, 1, 5, 99, 0x7fff_fff0, 0x7fff_ffff] {
                let own = crew.own_pid(pid);
                assert_eq!(crew.owner(own), crew.number());
                assert_eq!(own >> 8, pid >> 8, "the rest may mean something, too");
            }
        }
    }

    #[test]
    fn what_is_sent_arrives_and_what_cannot_comes_back() {
        let mut crew = Crew::assemble(2);
        let (last, mut mailbox) = crew.remove(1);
        let (first, gone) = crew.remove(0);
        drop(gone);
        assert!(first.tell(1, Command::End).is_ok());
        assert!(matches!(mailbox.try_recv(), Ok(Command::End)));
        assert!(matches!(last.tell(0, Command::End), Err(Command::End)));
        assert!(matches!(last.tell(9, Command::End), Err(Command::End)));
        assert!(first.others().eq([1]) && last.others().eq([0]));
        assert_eq!((first.next(), last.next()), (1, 0));
    }
}
