//! How other threads wake tasks of this one.

use super::sync::{AtomicU8, Mutex, MutexGuard, Ordering, PoisonError};
use super::tasks::Id;

/// The thread works, and will look here before it sleeps.
const AWAKE: u8 = 0;
/// It sleeps, or is about to: who has something for it must wake it.
const ASLEEP: u8 = 1;
/// There is something for it.
const CALLED: u8 = 2;

/// Tasks that other threads have woken. The thread itself is only woken if it sleeps.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: AtomicU8,
    woken: Mutex<Vec<Id>>,
}

impl Inbox {
    /// For another thread: true if the reactor has to be woken.
    pub fn call(&self, id: Id) -> bool {
        self.list().push(id);
        // After the push: who sees CALLED finds it. Whoever of several finds ASLEEP
        // wakes the thread, and nobody else.
        self.state.swap(CALLED, Ordering::AcqRel) == ASLEEP
    }

    fn list(&self) -> MutexGuard<'_, Vec<Id>> {
        // Nothing can panic while it is locked.
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has called. No read-modify-write where nobody has.
    #[inline]
    pub fn is_called(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CALLED
    }

    /// From now on whoever calls wakes the thread; false if somebody has called
    /// already.
    #[inline]
    pub fn fall_asleep(&self) -> bool {
        let asleep =
            self.state
                .compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Relaxed);
        asleep.is_ok()
    }

    /// The thread is up again; whether somebody has called.
    #[inline]
    pub fn wake_up(&self) -> bool {
        let awake = self
            .state
            .compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Relaxed);
        awake.is_err()
    }

    /// Whom others have woken. Only for the thread itself, awake.
    pub fn take(&self) -> Vec<Id> {
        // Before the list is taken: who pushes later calls anew. A swap, so that it
        // takes its place among theirs.
        self.state.swap(AWAKE, Ordering::AcqRel);
        std::mem::take(&mut *self.list())
    }
}
