//! What is known of the sockets: whether they are ready, and who waits for that.

use std::task::Waker;

use super::pages::Pages;
use super::tasks::Id;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Read,
    Write,
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) enum Waiter {
    #[default]
    Nobody,
    /// A task of this thread, whose waker need not be kept.
    Task(Id),
    /// Somebody else's, as that of a set of futures.
    Other(Box<Waker>),
}

/// Its two directions side by side, so that it takes 40 bytes and not 56.
#[derive(Debug, Default)]
struct Source {
    life: u32,
    readable: State,
    writable: State,
    /// The outbox has a letter for it.
    posted: bool,
    reader: Waiter,
    writer: Waiter,
}

/// What is known of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It was tried in vain, and no edge has come since.
    #[default]
    Blocked,
    Ready,
    /// Ready for ever: it has been closed at the other end, or is broken. The edge has
    /// told so once and does not again.
    Closed,
}

impl State {
    #[inline]
    fn report(&mut self, closed: bool) {
        if closed {
            *self = State::Closed;
        } else if *self == State::Blocked {
            *self = State::Ready;
        }
    }
}

/// What an event says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edge {
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub write_closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    places: Pages<Source>,
    /// That of the next socket.
    life: u32,
}

/// The place of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(u32);

impl Place {
    /// That which the kernel speaks of by this number.
    #[inline]
    pub fn of(token: usize) -> Place {
        Place(token as u32)
    }
}

impl Sources {
    /// A place for a socket, and the number by which the kernel is to speak of it.
    pub fn add(&mut self, writable: bool) -> (Place, usize) {
        let life = self.life;
        // One bit less than there are: no number is that of the inbox.
        self.life = life.wrapping_add(1) & (u32::MAX >> 1);
        let mut source = Source {
            life,
            ..Source::default()
        };
        if writable {
            source.writable = State::Ready;
        }
        let place = self.places.insert(source);
        // Each has a descriptor: there are never more than 32 bits can count.
        (Place(place as u32), place | (life as usize) << 32)
    }

    /// Events for it that are still under way are for nobody. Who waited is given back.
    pub fn remove(&mut self, place: Place) -> (Waiter, Waiter) {
        match self.places.remove(place.0 as usize) {
            Some(gone) => (gone.reader, gone.writer),
            None => Default::default(),
        }
    }

    #[inline]
    fn state(&mut self, place: Place, way: Way) -> Option<&mut State> {
        let source = self.places.get_mut(place.0 as usize)?;
        Some(match way {
            Way::Read => &mut source.readable,
            Way::Write => &mut source.writable,
        })
    }

    /// Whether it may be ready; that is known for sure only when it was tried.
    #[inline]
    pub fn is_ready(&self, place: Place, way: Way) -> bool {
        let source = self.places.get(place.0 as usize);
        let state = source.map(|source| match way {
            Way::Read => source.readable,
            Way::Write => source.writable,
        });
        state.is_some_and(|state| state != State::Blocked)
    }

    /// It was tried, and nothing is left: what comes is an edge.
    #[inline]
    pub fn exhausted(&mut self, place: Place, way: Way) {
        if let Some(state) = self.state(place, way)
            && *state == State::Ready
        {
            *state = State::Blocked;
        }
    }

    /// It was tried, and would have to wait.
    pub fn blocked(&mut self, place: Place, way: Way) {
        if let Some(state) = self.state(place, way) {
            *state = State::Blocked;
        }
    }

    #[inline]
    pub fn is_posted(&self, place: Place) -> bool {
        let source = self.places.get(place.0 as usize);
        source.is_some_and(|source| source.posted)
    }

    #[inline]
    pub fn set_posted(&mut self, place: Place, posted: bool) {
        if let Some(source) = self.places.get_mut(place.0 as usize) {
            source.posted = posted;
        }
    }

    /// The next edge wakes this one, and nobody else. Who waited before is given back.
    #[inline]
    pub fn wait(&mut self, place: Place, way: Way, waiter: Waiter) -> Waiter {
        let Some(source) = self.places.get_mut(place.0 as usize) else {
            return Waiter::Nobody;
        };
        let place = match way {
            Way::Read => &mut source.reader,
            Way::Write => &mut source.writer,
        };
        std::mem::replace(place, waiter)
    }

    /// The kernel has reported something: `wake` gets those who wait for it.
    #[inline]
    pub fn report(&mut self, token: usize, edge: Edge, mut wake: impl FnMut(Waiter)) {
        let source = self.places.get_mut(Place::of(token).0 as usize);
        let Some(source) = source.filter(|source| source.life as usize == token >> 32) else {
            return;
        };
        if edge.readable || edge.read_closed {
            source.readable.report(edge.read_closed);
            wake(std::mem::take(&mut source.reader));
        }
        if edge.writable || edge.write_closed {
            source.writable.report(edge.write_closed);
            wake(std::mem::take(&mut source.writer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Edge = Edge {
        readable: true,
        writable: false,
        read_closed: false,
        write_closed: false,
    };
    const DATA_AND_END: Edge = Edge {
        read_closed: true,
        ..DATA
    };

    fn report(sources: &mut Sources, token: usize, edge: Edge) -> Vec<Waiter> {
        let mut woken = Vec::new();
        sources.report(token, edge, |waiter| woken.push(waiter));
        woken
    }

    #[test]
    fn an_end_that_came_with_data_is_not_forgotten() {
        let mut sources = Sources::default();
        let (place, token) = sources.add(true);
        report(&mut sources, token, DATA);
        sources.exhausted(place, Way::Read);
        assert!(!sources.is_ready(place, Way::Read));
        report(&mut sources, token, DATA_AND_END);
        sources.exhausted(place, Way::Read);
        assert!(sources.is_ready(place, Way::Read));
    }

    #[test]
    fn an_event_for_a_socket_that_was_closed_wakes_nobody() {
        let mut sources = Sources::default();
        let (old, token) = sources.add(true);
        sources.remove(old);
        let (new, _) = sources.add(true);
        assert_eq!(new, old);
        sources.wait(
            new,
            Way::Read,
            Waiter::Other(Box::new(Waker::noop().clone())),
        );
        assert!(report(&mut sources, token, DATA).is_empty());
        assert!(!sources.is_ready(new, Way::Read));
    }

    #[test]
    fn each_direction_has_its_waiter_and_wakes_it_once() {
        let mut sources = Sources::default();
        let (place, token) = sources.add(false);
        let waiter = || Waiter::Other(Box::new(Waker::noop().clone()));
        sources.wait(place, Way::Read, waiter());
        sources.wait(place, Way::Write, waiter());
        let woken = report(&mut sources, token, DATA);
        assert!(matches!(*woken, [Waiter::Other(_)]));
        let woken = report(&mut sources, token, DATA);
        assert!(matches!(*woken, [Waiter::Nobody]));
        assert!(!sources.is_ready(place, Way::Write));
    }

    /// It is part of what an idle client costs.
    #[test]
    fn an_idle_socket_stays_small() {
        assert!(size_of::<Source>() <= 40, "{} bytes", size_of::<Source>());
    }
}
