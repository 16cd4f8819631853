//! The loop: tasks that are ready run, then the kernel is asked for events.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};

use super::inbox::Inbox;
use super::outbox::Outbox;
use super::ring::Ring;
use super::sources::{Edge, Place, Sources, Waiter, Way};
use super::tasks::{Id, Task, Tasks};
use super::time::Timers;

/// So many tasks run before sockets are looked at, if there is no end of them. The more
/// do, the more is sent at once.
const RUN: usize = 256;
/// So many events are taken at once.
const EVENTS: usize = 1024;
/// By which the kernel speaks of the inbox.
const CALL: Token = Token(usize::MAX);
/// So much of a task's work may go on without a look at the others.
pub(super) const BUDGET: u8 = 128;

thread_local! {
    static CURRENT: Cell<Option<&'static Reactor>> = const { Cell::new(None) };
}

/// A thread's reactor.
///
/// No borrow of a part is held while code of others runs (polling, waking or dropping
/// a future or a waker): that may come back here.
pub(super) struct Reactor {
    poll: RefCell<mio::Poll>,
    events: RefCell<Events>,
    tasks: RefCell<Tasks>,
    pub(super) sources: RefCell<Sources>,
    pub(super) outbox: RefCell<Outbox>,
    pub(super) timers: RefCell<Timers>,
    /// When events came last.
    now: Cell<Instant>,
    inbox: Arc<Called>,
    /// Who runs just now.
    running: Cell<Option<Running>>,
    /// What is left of its budget.
    pub(super) budget: Cell<u8>,
}

#[derive(Clone, Copy)]
struct Running {
    id: Id,
    /// By which its waker is known.
    waker: *const (),
}

/// The inbox, and how the thread is woken for it.
struct Called {
    inbox: Inbox,
    thread: mio::Waker,
}

/// Wakes a task from wherever.
struct TaskWaker {
    called: Arc<Called>,
    id: Id,
}

impl std::task::Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match CURRENT.get() {
            Some(reactor) if Arc::ptr_eq(&reactor.inbox, &self.called) => {
                reactor.tasks.borrow_mut().wake(self.id);
            }
            _ => {
                if self.called.inbox.call(self.id) {
                    // It cannot fail but for a descriptor that is not one.
                    let _ = self.called.thread.wake();
                }
            }
        }
    }
}

/// The right to run a reactor on this thread.
///
/// Dropping it drops all tasks. The reactor itself stays for the rest of the process.
pub struct Runtime {
    reactor: &'static Reactor,
}

impl Runtime {
    /// Begins a reactor for this thread.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn new() -> io::Result<Runtime> {
        let poll = mio::Poll::new()?;
        let thread = mio::Waker::new(poll.registry(), CALL)?;
        let inbox = Inbox::default();
        // For ever, so that nobody has to ask whether it is still there: workers are
        // not replaced while the process lives.
        let reactor = Box::leak(Box::new(Reactor {
            poll: RefCell::new(poll),
            events: RefCell::new(Events::with_capacity(EVENTS)),
            tasks: RefCell::default(),
            sources: RefCell::default(),
            outbox: RefCell::default(),
            timers: RefCell::default(),
            now: Cell::new(Instant::now()),
            inbox: Arc::new(Called { inbox, thread }),
            running: Cell::new(None),
            budget: Cell::new(BUDGET),
        }));
        Ok(Runtime { reactor })
    }

    /// From now on what tasks write in a turn is sent by one system call, with io_uring.
    ///
    /// # Errors
    /// The kernel has none, or not for this process.
    pub fn send_by_ring(&self) -> io::Result<()> {
        self.reactor.outbox.borrow_mut().send_by(Ring::new()?);
        Ok(())
    }

    /// Runs a future, and whatever it spawns, until that one has ended. Others are left
    /// where they are.
    ///
    /// # Panics
    /// With the future's own panic. A panic of any other task ends that task alone.
    ///
    /// # Errors
    /// The kernel does not tell events any more.
    pub fn run<F: Future<Output: 'static> + 'static>(&self, future: F) -> io::Result<F::Output> {
        let before = CURRENT.replace(Some(self.reactor));
        let result = self.reactor.run(future);
        CURRENT.set(before);
        result
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let before = CURRENT.replace(Some(self.reactor));
        loop {
            let task = self.reactor.tasks.borrow_mut().pop();
            match task {
                Some(task) => drop(task),
                None => break,
            }
        }
        CURRENT.set(before);
    }
}

/// Runs a test on a reactor of its own.
#[cfg(test)]
pub fn run<F: Future<Output: 'static> + 'static>(future: F) -> F::Output {
    let runtime = Runtime::new().expect("there are descriptors");
    runtime.run(future).expect("the kernel tells events")
}

/// Runs a test twice, where the kernel has io_uring: once sending by it.
#[cfg(test)]
pub fn run_both_ways<F: Future<Output = ()> + 'static>(test: impl Fn() -> F) {
    run(test());
    let runtime = Runtime::new().expect("there are descriptors");
    if runtime.send_by_ring().is_ok() {
        runtime.run(test()).expect("the kernel tells events");
    }
}

/// A task of this thread, to be woken by it: what takes a waker can do with less.
#[derive(Clone, Copy, Debug)]
pub struct Wake(Id);

impl Wake {
    /// That of the task that is being polled just now.
    ///
    /// # Panics
    /// Outside any.
    pub fn current() -> Wake {
        match Reactor::current().running.get() {
            Some(running) => Wake(running.id),
            None => no_reactor(),
        }
    }

    /// Does nothing if it has ended.
    pub fn wake(self) {
        // None is left on a thread that is ending.
        if let Some(reactor) = Reactor::try_current() {
            reactor.tasks.borrow_mut().wake(self.0);
        }
    }

    pub(super) fn waiter(self) -> Waiter {
        Waiter::Task(self.0)
    }
}

/// When the events came that are being dealt with: the time, without asking for it. It
/// lags by what tasks have done since.
///
/// # Panics
/// Outside [`Runtime::run`].
#[inline]
pub fn now() -> Instant {
    Reactor::current().now.get()
}

/// Starts a task of this thread. Nobody waits for its end; a panic ends it alone.
///
/// # Panics
/// Outside [`Runtime::run`].
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    Reactor::current().spawn(future);
}

impl Reactor {
    #[inline]
    pub fn current() -> &'static Reactor {
        match CURRENT.get() {
            Some(reactor) => reactor,
            None => no_reactor(),
        }
    }

    /// `None` on a thread without one, as one that is ending.
    pub fn try_current() -> Option<&'static Reactor> {
        CURRENT.get()
    }

    fn spawn(&self, future: impl Future<Output = ()> + 'static) -> Id {
        let id = self.tasks.borrow_mut().reserve();
        let called = self.inbox.clone();
        let task = Task {
            future: Box::pin(future),
            waker: Waker::from(Arc::new(TaskWaker { called, id })),
        };
        let mut tasks = self.tasks.borrow_mut();
        tasks.put(id, task);
        tasks.wake(id);
        id
    }

    fn run<F: Future<Output: 'static> + 'static>(&self, future: F) -> io::Result<F::Output> {
        let result = Rc::new(Cell::new(None));
        let result_of_it = result.clone();
        let first = self.spawn(async move { result_of_it.set(Some(future.await)) });
        loop {
            for _ in 0..RUN {
                let next = self.tasks.borrow_mut().next();
                let Some((id, task)) = next else { break };
                if let Err(panic) = self.run_task(id, task)
                    && id == first
                {
                    resume_unwind(panic);
                }
            }
            self.send_posted();
            if let Some(result) = result.take() {
                return Ok(result);
            }
            self.turn()?;
        }
    }

    #[inline]
    fn run_task(&self, id: Id, mut task: Task) -> std::thread::Result<()> {
        let waker = task.waker.data();
        self.running.set(Some(Running { id, waker }));
        self.budget.set(BUDGET);
        let mut cx = Context::from_waker(&task.waker);
        // What it leaves behind is dropped unseen.
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut cx)));
        self.running.set(None);
        match polled {
            Ok(Poll::Pending) => self.tasks.borrow_mut().put(id, task),
            ended => {
                // First of all, so that what wakes it while it is dropped does not find it.
                self.tasks.borrow_mut().remove(id);
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(task)));
                // Pending was the other case.
                let _ended: Poll<()> = ended?;
                dropped?;
            }
        }
        Ok(())
    }

    /// Waits for events, unless somebody is ready, and wakes those whom they concern.
    fn turn(&self) -> io::Result<()> {
        let inbox = &self.inbox.inbox;
        let rest = match self.tasks.borrow().anybody_is_ready() {
            true => Some(Duration::ZERO),
            false => {
                // By the clock of the last turn: a limit may end so much later as
                // tasks have run since, and the clock is read once.
                let first = self.timers.borrow().first();
                first.map(|at| at.saturating_duration_since(self.now.get()))
            }
        };
        let mut called = inbox.is_called();
        match rest {
            Some(Duration::ZERO) => self.wait(rest)?,
            _ if called => self.wait(Some(Duration::ZERO))?,
            _ => {
                called = !inbox.fall_asleep();
                if !called {
                    self.wait(rest)?;
                    called = inbox.wake_up();
                }
            }
        }
        // Before those whom sockets concern: what another thread has told may be known
        // to who has sent something since, as that a reload is in force.
        if called || inbox.is_called() {
            for id in inbox.take() {
                self.tasks.borrow_mut().wake(id);
            }
        }
        self.report();
        self.now.set(Instant::now());
        self.ring();
        Ok(())
    }

    /// Wakes those whose time has come.
    fn ring(&self) {
        loop {
            let due = self.timers.borrow_mut().take_due(self.now.get());
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }

    /// Waits for events, at most so long.
    fn wait(&self, rest: Option<Duration>) -> io::Result<()> {
        match (self.poll.borrow_mut()).poll(&mut self.events.borrow_mut(), rest) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Wakes those whom the events concern that have come.
    fn report(&self) {
        let mut events = self.events.borrow_mut();
        let (mut sources, mut tasks) = (self.sources.borrow_mut(), self.tasks.borrow_mut());
        let mut outbox = self.outbox.borrow_mut();
        let mut others = Vec::new();
        for event in events.iter() {
            let Token(token) = event.token();
            let mut edge = edge(event);
            edge.writable = edge.writable && outbox.send_rest(Place::of(token));
            sources.report(token, edge, |waiter| match waiter {
                Waiter::Nobody => {}
                Waiter::Task(id) => tasks.wake(id),
                Waiter::Other(waker) => others.push(waker),
            });
        }
        events.clear();
        drop((events, sources, tasks, outbox));
        for waker in others {
            waker.wake();
        }
    }

    /// Who is to be woken if `cx` is.
    #[inline]
    pub fn waiter(&self, cx: &Context<'_>) -> Waiter {
        match self.running.get() {
            // An address that belongs to one waker as long as that one is there.
            Some(Running { id, waker }) if ptr::eq(waker, cx.waker().data()) => Waiter::Task(id),
            _ => Waiter::Other(Box::new(cx.waker().clone())),
        }
    }

    /// From now on the kernel tells of a socket.
    pub fn register(&self, descriptor: i32, writable: bool) -> io::Result<Place> {
        let (place, token) = self.sources.borrow_mut().add(writable);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let poll = self.poll.borrow();
        let mut source = SourceFd(&descriptor);
        match poll
            .registry()
            .register(&mut source, Token(token), interest)
        {
            Ok(()) => Ok(place),
            Err(error) => {
                self.forget(place);
                Err(error)
            }
        }
    }

    /// The socket goes elsewhere. (One that is closed leaves by itself.)
    pub fn deregister(&self, descriptor: i32) -> io::Result<()> {
        let poll = self.poll.borrow();
        poll.registry().deregister(&mut SourceFd(&descriptor))
    }

    /// Sends what tasks have written.
    #[inline]
    pub fn send_posted(&self) {
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.is_empty() {
            let mut sources = self.sources.borrow_mut();
            outbox.send(|place, blocked| {
                sources.set_posted(place, false);
                if blocked {
                    sources.blocked(place, Way::Write);
                }
            });
        }
    }

    /// To be sent with all that is written in this turn.
    #[inline]
    pub fn post(&self, place: Place, descriptor: i32, bytes: &[u8]) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.append(place, bytes) {
            return;
        }
        let mut sources = self.sources.borrow_mut();
        if outbox.is_full() || sources.is_posted(place) {
            drop((outbox, sources));
            self.send_posted();
            (outbox, sources) = (self.outbox.borrow_mut(), self.sources.borrow_mut());
            // That may have blocked it.
            if outbox.append(place, bytes) {
                return;
            }
        }
        sources.set_posted(place, true);
        outbox.post(place, descriptor, bytes);
    }

    /// Nobody asks any more for the socket that is known here, and that is still open.
    pub fn forget(&self, place: Place) {
        self.send_posted();
        self.outbox.borrow_mut().forget(place);
        let gone = self.sources.borrow_mut().remove(place);
        drop(gone);
    }
}

#[inline]
fn edge(event: &Event) -> Edge {
    Edge {
        readable: event.is_readable(),
        writable: event.is_writable(),
        read_closed: event.is_read_closed() || event.is_error(),
        write_closed: event.is_write_closed() || event.is_error(),
    }
}

#[cold]
fn no_reactor() -> ! {
    panic!("there is no reactor on this thread: see reactor::Runtime::run");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Waker;

    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::reactor::{Socket, run, sleep, timeout};

    #[test]
    fn tasks_take_turns_and_wake_each_other() {
        let order = run(async {
            let (order, there) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Notify::new()));
            for name in ["first", "second"] {
                let (order, there) = (order.clone(), there.clone());
                spawn(async move {
                    order.borrow_mut().push((name, "begins"));
                    there.notified().await;
                    order.borrow_mut().push((name, "ends"));
                });
            }
            sleep(Duration::from_millis(1)).await;
            there.notify_waiters();
            sleep(Duration::from_millis(1)).await;
            order.take()
        });
        let [begins, ends] = ["begins", "ends"];
        let (first, second) = ("first", "second");
        assert_eq!(
            order,
            [
                (first, begins),
                (second, begins),
                (first, ends),
                (second, ends)
            ]
        );
    }

    #[test]
    fn other_threads_wake_a_task_that_sleeps_and_one_that_works() {
        run(async {
            for round in 0..2000 {
                let (tell, told) = oneshot::channel();
                std::thread::spawn(move || tell.send(round).unwrap());
                if round % 2 == 0 {
                    sleep(Duration::from_micros(50)).await;
                }
                let told = timeout(Duration::from_secs(20), told).await;
                assert_eq!(told, Ok(Ok(round)));
            }
        });
    }

    #[test]
    fn what_another_thread_tells_comes_before_what_is_sent_afterwards() {
        use std::io::Write;
        use std::os::unix::net::UnixStream;
        let order = run(async {
            let (near, mut far) = UnixStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            let near = Socket::new(near).unwrap();
            let order = Rc::new(RefCell::new(Vec::new()));
            let (tell, told) = oneshot::channel();
            let order_of_it = order.clone();
            spawn(async move {
                near.peek().await.unwrap();
                order_of_it.borrow_mut().push("sent");
            });
            let order_of_it = order.clone();
            spawn(async move {
                told.await.unwrap();
                order_of_it.borrow_mut().push("told");
            });
            sleep(Duration::from_millis(1)).await;
            // This thread hears of neither until both are there.
            let other = std::thread::spawn(move || {
                tell.send(()).unwrap();
                far.write_all(b"x").unwrap();
            });
            other.join().unwrap();
            sleep(Duration::from_millis(1)).await;
            order.take()
        });
        assert_eq!(order, ["told", "sent"]);
    }

    /// A waker may live longer than its task, and than the reactor.
    #[test]
    fn a_waker_of_nobody_wakes_nobody() {
        let (send, wakers) = mpsc::channel::<Waker>();
        let runtime = Runtime::new().unwrap();
        let polls = Rc::new(Cell::new(0));
        let polls_of_it = polls.clone();
        let work = async move {
            spawn(std::future::poll_fn(move |cx| {
                send.send(cx.waker().clone()).unwrap();
                polls_of_it.set(polls_of_it.get() + 1);
                Poll::Ready(())
            }));
            sleep(Duration::from_millis(1)).await;
            let waker = wakers.recv().unwrap();
            waker.wake_by_ref();
            sleep(Duration::from_millis(1)).await;
            waker
        };
        let waker = runtime.run(work).unwrap();
        drop(runtime);
        waker.wake();
        assert_eq!(polls.get(), 1);
    }

    #[test]
    fn a_panic_ends_one_task_alone() {
        let rest = run(async {
            let (tell, told) = oneshot::channel::<()>();
            spawn(async move {
                let _tell = tell;
                panic!("as it should");
            });
            told.await
        });
        assert!(rest.is_err());
    }

    #[test]
    #[should_panic(expected = "of the first")]
    fn a_panic_of_the_first_is_the_callers() {
        run(async { panic!("of the first") })
    }

    #[test]
    fn tasks_that_are_left_are_dropped_with_the_runtime() {
        let held = Rc::new(());
        let held_by_task = held.clone();
        run(async move {
            spawn(async move {
                let _held = held_by_task;
                std::future::pending::<()>().await;
            });
        });
        assert_eq!(Rc::strong_count(&held), 1);
    }

    /// One that always is ready does not keep the others from their events.
    #[test]
    fn a_task_that_never_rests_does_not_stop_the_clock() {
        run(async {
            spawn(std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::Pending
            }));
            sleep(Duration::from_millis(5)).await;
        });
    }
}
