//! What others ask of a client.

use std::task::Context;

use super::{Client, Hearing, Hold};
use crate::admin::snapshot::ClientState;
use crate::client::farewell::End;
use crate::client::info::{Order, Question};
use crate::flow::{Release, Wait};
use crate::server::Again;
use crate::wire::build::Refusal;

impl Client {
    pub(super) fn obey(&mut self) -> Result<(), End> {
        match self.info.take_question() {
            None => {}
            Some(Question::Cancel) => self.cancel_wait(),
            Some(Question::Review) => self.review()?,
        }
        match self.info.ordered() {
            Order::Nothing | Order::Move | Order::Stay => Ok(()),
            Order::Drain => {
                if self.is_between_transactions() && self.session.listener_wait() == Wait::No {
                    Err(End::Ordered(Order::Drain))
                } else {
                    Ok(())
                }
            }
            order => Err(End::Ordered(order)),
        }
    }

    fn is_between_transactions(&self) -> bool {
        match &self.hold {
            Hold::Nothing => self.input.is_empty() && self.session.is_between_requests(),
            Hold::Waiting(..) => false,
            Hold::Linked(lease) => lease.backend.release() == Release::Ready,
        }
    }

    /// Whether nothing is under way, in whatever direction: what comes next, the
    /// client says.
    pub(in crate::client) fn is_at_rest(&self) -> bool {
        self.is_between_transactions()
            && self.input.is_empty()
            && self.output.is_empty()
            && !self.answers_first
            && !self.input_due
            && self.again == Again::No
            && self.hearing != Hearing::Over
    }

    /// If its request waits, that is cancelled: the answer is PostgreSQL's.
    pub(super) fn cancel_wait(&mut self) {
        let Hold::Waiting(ticket, _) = self.hold else {
            return;
        };
        self.pool.leave(ticket);
        self.hold = Hold::Nothing;
        self.info.state.set(ClientState::Idle);
        let mut error = Vec::new();
        Refusal::error("57014", "canceling statement due to user request").encode(&mut error);
        let mut to_client = Vec::new();
        let input = std::mem::take(&mut self.input);
        let taken = self.session.refuse(&input, &error, &mut to_client);
        self.keep_input(&input, taken);
        self.input_due = !self.input.is_empty();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Whatever is wrong with the socket shows when it is read.
        let _ = self.output.write(&mut self.stream, &mut cx, &to_client);
    }
}
