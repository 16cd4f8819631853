//! The task of a logged-in client. It is written by hand, and has nothing in it
//! but the client, because there may be tens of thousands of idle ones.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::session::Client;

/// Serves a client until it has left. If it is dropped, the server connection
/// is given back and cleaned.
pub(super) enum Task {
    Serving(Client),
    /// Until it is known whether another process takes it.
    Moving(Box<(Client, oneshot::Receiver<bool>)>),
    Leaving(Pin<Box<dyn Future<Output = ()>>>),
    Gone,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                // ## Serving => Leaving
                Task::Serving(client) => {
                    let Poll::Ready(end) = client.poll(cx) else {
                        // ## Serving => Moving
                        let Some(answer) = client.begin_move() else {
                            return Poll::Pending;
                        };
                        let Task::Serving(client) = std::mem::replace(&mut *self, Task::Gone)
                        else {
                            return Poll::Ready(());
                        };
                        *self = Task::Moving(Box::new((client, answer)));
                        continue;
                    };
                    let goodbye = client.finish(&end);
                    let Task::Serving(client) = std::mem::replace(&mut *self, Task::Gone) else {
                        return Poll::Ready(());
                    };
                    if goodbye.is_empty() {
                        return Poll::Ready(());
                    }
                    *self = Task::Leaving(Box::pin(async move {
                        let mut client = client;
                        goodbye.say(&mut client.stream).await;
                    }));
                }
                // ## Moving => Gone, Serving
                Task::Moving(moving) => {
                    let taken = std::task::ready!(Pin::new(&mut moving.1).poll(cx));
                    let Task::Moving(moving) = std::mem::replace(&mut *self, Task::Gone) else {
                        return Poll::Ready(());
                    };
                    let (mut client, _) = *moving;
                    if taken == Ok(true) {
                        client.let_go();
                    } else {
                        client.stay();
                        *self = Task::Serving(client);
                    }
                }
                // ## Leaving => Gone
                Task::Leaving(goodbye) => {
                    std::task::ready!(goodbye.as_mut().poll(cx));
                    *self = Task::Gone;
                }
                Task::Gone => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is what an idle client costs, beside its socket and what the console
    /// shows of it.
    #[test]
    fn the_task_stays_small() {
        // The next class of sizes of the allocator is 160.
        assert!(size_of::<Task>() <= 136, "{} bytes", size_of::<Task>());
    }
}
