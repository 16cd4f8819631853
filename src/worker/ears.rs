//! Which clients of this worker listen to what, and what they have not been told
//! yet. What the server is to be asked goes to the ear of their database.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::client::{ClientInfo, Order};
use crate::server::ear::{Ask, Asked, EarName, Heard, Notification};
use crate::sql::listen::Channel;

#[derive(Debug, Default)]
pub(super) struct Hearers {
    clients: RefCell<HashMap<u64, Hearer>>,
    /// Clients by channel.
    channels: RefCell<HashMap<EarName, HashMap<Channel, Vec<u64>>>>,
}

#[derive(Debug)]
struct Hearer {
    ear: EarName,
    info: Rc<ClientInfo>,
    channels: BTreeSet<Channel>,
    /// The process of the server connection that it has, if that was reserved.
    server: u32,
    /// To the question that it has asked.
    answer: Option<Answer>,
    mail: Vec<Arc<Notification>>,
    /// In `mail`.
    bytes: usize,
}

/// An error says why nobody can listen.
type Answer = Result<(), Arc<str>>;

impl Worker {
    /// Has these channels heard for a client, beside those that are. The answer is
    /// [`Worker::take_answer`]. `encoding` counts if none was; `server`: what
    /// [`Worker::reserve_pid`] is asked for as well.
    pub fn listen(
        &self,
        info: &Rc<ClientInfo>,
        encoding: &[u8],
        channels: Vec<Channel>,
        server: Option<u32>,
    ) {
        let Some(pool) = info.pool() else { return };
        let mut clients = self.hearers.clients.borrow_mut();
        let hearer = clients.entry(info.id).or_insert_with(|| Hearer {
            ear: EarName {
                database: pool.config().database.clone(),
                encoding: encoding.into(),
            },
            info: info.clone(),
            channels: BTreeSet::new(),
            server: 0,
            answer: None,
            mail: Vec::new(),
            bytes: 0,
        });
        let mut by_ear = self.hearers.channels.borrow_mut();
        let by_channel = by_ear.entry(hearer.ear.clone()).or_default();
        for channel in &channels {
            if hearer.channels.insert(channel.clone()) {
                by_channel.entry(channel.clone()).or_default().push(info.id);
            }
        }
        hearer.server = server.unwrap_or(hearer.server);
        let reserve = server.map(|server| (server, info.pid));
        let ask = Ask::Hear {
            client: info.id,
            channels,
            reserve,
        };
        self.ask(&hearer.ear, info, ask);
    }

    /// Asks for what others have sent over a server connection to have arrived
    /// ([`Worker::take_answer`]): from then on it is the client's. False: nothing is
    /// heard for it.
    pub fn reserve_pid(&self, info: &Rc<ClientInfo>, server: u32) -> bool {
        let mut clients = self.hearers.clients.borrow_mut();
        let Some(hearer) = clients.get_mut(&info.id) else {
            return false;
        };
        hearer.server = server;
        let ask = Ask::Hear {
            client: info.id,
            channels: Vec::new(),
            reserve: Some((server, info.pid)),
        };
        self.ask(&hearer.ear, info, ask);
        true
    }

    /// Asks for everything to have arrived that was sent up to now
    /// ([`Worker::take_answer`]). False: nothing is heard for it.
    pub fn settle_notifications(&self, info: &Rc<ClientInfo>) -> bool {
        let clients = self.hearers.clients.borrow();
        let Some(hearer) = clients.get(&info.id) else {
            return false;
        };
        self.ask(&hearer.ear, info, Ask::Settle { client: info.id });
        true
    }

    /// The client is about to give its server connection back.
    pub fn release_pid(&self, id: u64) {
        let mut clients = self.hearers.clients.borrow_mut();
        if let Some(hearer) = clients.get_mut(&id) {
            self.release(hearer);
        }
    }

    fn release(&self, hearer: &mut Hearer) {
        match std::mem::take(&mut hearer.server) {
            0 => {}
            server => self.tell_ear(&hearer.ear, Ask::Release((server, hearer.info.pid))),
        }
    }

    /// The client listens to these and to nothing else.
    pub fn keep_channels(&self, id: u64, kept: &BTreeSet<Channel>) {
        let mut clients = self.hearers.clients.borrow_mut();
        let Some(hearer) = clients.get_mut(&id) else {
            return;
        };
        let mut by_ear = self.hearers.channels.borrow_mut();
        let Some(by_channel) = by_ear.get_mut(&hearer.ear) else {
            return;
        };
        for channel in hearer.channels.difference(kept) {
            let Some(others) = by_channel.get_mut(channel) else {
                continue;
            };
            others.retain(|other| *other != id);
            if others.is_empty() {
                by_channel.remove(channel);
                self.tell_ear(&hearer.ear, Ask::Forget(channel.clone()));
            }
        }
        hearer.channels.retain(|channel| kept.contains(channel));
        if hearer.channels.is_empty() {
            if by_channel.is_empty() {
                by_ear.remove(&hearer.ear);
            }
            self.release(hearer);
            clients.remove(&id);
        }
    }

    /// The client has gone.
    pub(super) fn leave_ear(&self, id: u64) {
        self.keep_channels(id, &BTreeSet::new());
    }

    /// How many channels are heard for a client.
    pub(super) fn channel_count(&self, id: u64) -> usize {
        let clients = self.hearers.clients.borrow();
        clients.get(&id).map_or(0, |hearer| hearer.channels.len())
    }

    /// The answer to what a client has asked last, if it is there.
    pub fn take_answer(&self, id: u64) -> Option<Answer> {
        self.hearers
            .clients
            .borrow_mut()
            .get_mut(&id)?
            .answer
            .take()
    }

    /// What has come for a client.
    pub fn take_mail(&self, id: u64) -> Vec<Arc<Notification>> {
        let mut clients = self.hearers.clients.borrow_mut();
        clients.get_mut(&id).map_or_else(Vec::new, |hearer| {
            hearer.bytes = 0;
            std::mem::take(&mut hearer.mail)
        })
    }

    /// The client wants nothing of what has come on other channels.
    pub fn drop_mail(&self, id: u64, but: &BTreeSet<Channel>) {
        let mut clients = self.hearers.clients.borrow_mut();
        if let Some(Hearer { mail, bytes, .. }) = clients.get_mut(&id) {
            mail.retain(|n| but.contains(&n.channel));
            *bytes = mail.iter().map(|n| n.message.len()).sum();
        }
    }

    /// What an ear says.
    pub(super) fn hear(&self, ear: &EarName, heard: Vec<Heard>) {
        let bound = self.terms().config.general.notification_buffer;
        let by_ear = self.hearers.channels.borrow();
        let mut clients = self.hearers.clients.borrow_mut();
        for heard in heard {
            match heard {
                Heard::Notification(notification) => {
                    let by_channel = by_ear.get(ear);
                    let hearers = by_channel.and_then(|all| all.get(&notification.channel));
                    for id in hearers.into_iter().flatten() {
                        let Some(hearer) = clients.get_mut(id) else {
                            continue;
                        };
                        hearer.bytes += notification.message.len();
                        hearer.mail.push(notification.clone());
                        match hearer.bytes > bound as usize {
                            true => hearer.info.order(Order::TooManyNotifications),
                            false => hearer.info.bring_news(),
                        }
                    }
                }
                Heard::Ready(id) => {
                    if let Some(hearer) = clients.get_mut(&id) {
                        hearer.answer = Some(Ok(()));
                        hearer.info.bring_news();
                    }
                }
                Heard::Failed(id, reason) => {
                    if let Some(hearer) = clients.get_mut(&id) {
                        hearer.answer = Some(Err(reason));
                        hearer.info.bring_news();
                    }
                }
                Heard::Lost => {
                    for hearer in clients.values().filter(|hearer| hearer.ear == *ear) {
                        hearer.info.order(Order::NotificationsLost);
                    }
                }
            }
        }
    }

    fn ask(&self, ear: &EarName, info: &ClientInfo, ask: Ask) {
        let worker = self.crew.number();
        if let Some(pool) = info.pool() {
            let asked = Asked { worker, ask };
            self.crew.ears().ask(ear, asked, pool, &self.crew);
        }
    }

    fn tell_ear(&self, ear: &EarName, ask: Ask) {
        let worker = self.crew.number();
        self.crew.ears().tell(ear, Asked { worker, ask });
    }
}
