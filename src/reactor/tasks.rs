//! The tasks of a thread, and in which order they are ready to go on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Waker;

use super::pages::Pages;

/// A task. Numbers of places are used again, lives are not: an id of a task that has
/// ended means nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    place: u32,
    life: u32,
}

/// What is taken out of its place while it runs.
pub(super) struct Task {
    pub future: Pin<Box<dyn Future<Output = ()>>>,
    pub waker: Waker,
}

struct Place {
    life: u32,
    /// Is in `ready`.
    queued: bool,
    /// `None`: nobody lives here, or it runs just now.
    task: Option<Task>,
}

#[derive(Default)]
pub(super) struct Tasks {
    places: Pages<Place>,
    /// That of the next task.
    life: u32,
    ready: VecDeque<Id>,
}

impl Tasks {
    /// A place for a task, which is to be [`put`](Self::put) there.
    pub fn reserve(&mut self) -> Id {
        let life = self.life;
        self.life = life.wrapping_add(1);
        let place = self.places.insert(Place {
            life,
            queued: false,
            task: None,
        });
        // Each has a future in memory: there are never more than 32 bits can count.
        let place = place as u32;
        Id { place, life }
    }

    fn place(&mut self, id: Id) -> Option<&mut Place> {
        let place = self.places.get_mut(id.place as usize);
        place.filter(|place| place.life == id.life)
    }

    pub fn put(&mut self, id: Id, task: Task) {
        if let Some(place) = self.place(id) {
            place.task = Some(task);
        }
    }

    /// It is ready, if it still lives.
    #[inline]
    pub fn wake(&mut self, id: Id) {
        if let Some(place) = self.place(id)
            && !std::mem::replace(&mut place.queued, true)
        {
            self.ready.push_back(id);
        }
    }

    /// The next one that is ready. It is to be [`put`](Self::put) back or
    /// [removed](Self::remove).
    #[inline]
    pub fn next(&mut self) -> Option<(Id, Task)> {
        loop {
            let id = self.ready.pop_front()?;
            let Some(place) = self.place(id) else {
                continue;
            };
            place.queued = false;
            if let Some(task) = place.task.take() {
                return Some((id, task));
            }
        }
    }

    pub fn anybody_is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// It has ended.
    pub fn remove(&mut self, id: Id) {
        if self.place(id).is_some() {
            let gone = self.places.remove(id.place as usize);
            // It was taken out before it ended.
            debug_assert!(gone.is_none_or(|place| place.task.is_none()));
        }
    }

    /// Takes any one out for good.
    pub fn pop(&mut self) -> Option<Task> {
        std::iter::from_fn(|| self.places.pop()).find_map(|place| place.task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tasks: &mut Tasks) -> Id {
        let id = tasks.reserve();
        let task = Task {
            future: Box::pin(async {}),
            waker: Waker::noop().clone(),
        };
        tasks.put(id, task);
        id
    }

    #[test]
    fn in_the_order_of_waking_and_once() {
        let mut tasks = Tasks::default();
        let ids = [add(&mut tasks), add(&mut tasks), add(&mut tasks)];
        for id in [ids[2], ids[0], ids[2]] {
            tasks.wake(id);
        }
        let order: Vec<Id> = std::iter::from_fn(|| tasks.next().map(|(id, _)| id)).collect();
        assert_eq!(order, [ids[2], ids[0]]);
    }

    #[test]
    fn who_is_woken_while_it_runs_runs_again() {
        let mut tasks = Tasks::default();
        let id = add(&mut tasks);
        tasks.wake(id);
        let (_, task) = tasks.next().unwrap();
        tasks.wake(id);
        tasks.put(id, task);
        assert!(tasks.next().is_some());
        assert!(tasks.next().is_none());
    }

    #[test]
    fn a_new_task_in_the_place_of_another_is_not_woken_in_its_stead() {
        let mut tasks = Tasks::default();
        let old = add(&mut tasks);
        tasks.wake(old);
        drop(tasks.next());
        tasks.wake(old);
        tasks.remove(old);
        let new = add(&mut tasks);
        assert_eq!(new.place, old.place);
        tasks.wake(old);
        assert!(tasks.next().is_none());
        tasks.wake(new);
        assert!(tasks.next().is_some());
    }
}
