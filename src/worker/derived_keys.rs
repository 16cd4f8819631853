//! SCRAM keys of plain passwords, each derived once.

use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use tokio::sync::OnceCell;

use super::hashing::{Hashing, HashingError};
use crate::auth::digest::hmac_sha256;
use crate::auth::{Masked, ScramKeys};

/// Keys kept at most; when there are more, all are forgotten and derived anew.
const CAPACITY: usize = 10_000;

/// Identifies password, salt and iteration count without keeping the password.
type Id = [u8; 32];
type Slot = Arc<OnceCell<Arc<ScramKeys>>>;

/// A cache in front of [`ScramKeys::derive`], shared by all workers: cheap to
/// clone. Thousands of clients that log in at once cost one derivation.
#[derive(Clone, Debug)]
pub struct DerivedKeys {
    hashing: Hashing,
    shared: Arc<Shared>,
}

struct Shared {
    seed: [u8; 32],
    slots: Mutex<HashMap<Id, Slot>>,
}

impl DerivedKeys {
    /// An empty cache; derivations run on the threads of `hashing`.
    pub fn new(hashing: Hashing) -> DerivedKeys {
        DerivedKeys {
            hashing,
            shared: Arc::new(Shared {
                seed: rand::random(),
                slots: Mutex::default(),
            }),
        }
    }

    /// The keys of a password. Meant for passwords that are known to be right:
    /// what a peer claims must not fill the cache.
    ///
    /// Cancel safe: another caller that waits for the same keys takes over.
    pub async fn get(
        &self,
        password: &Masked,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Arc<ScramKeys>, HashingError> {
        let slot = self.slot(password, salt, iterations);
        let derive = || async {
            let (password, salt) = (password.clone(), salt.to_vec());
            let derive = move || ScramKeys::derive(password.reveal().as_bytes(), &salt, iterations);
            self.hashing.run(derive).await.map(Arc::new)
        };
        slot.get_or_try_init(derive).await.cloned()
    }

    /// The threads themselves, for work that is not worth remembering.
    pub fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    fn slot(&self, password: &Masked, salt: &[u8], iterations: u32) -> Slot {
        let id = hmac_sha256(
            &self.shared.seed,
            &[
                &iterations.to_be_bytes(),
                &salt.len().to_be_bytes(),
                salt,
                password.reveal().as_bytes(),
            ],
        );
        let slots = self.shared.slots.lock();
        let mut slots = slots.unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= CAPACITY && !slots.contains_key(&id) {
            slots.clear();
        }
        Arc::clone(slots.entry(id).or_default())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived_keys() -> DerivedKeys {
        DerivedKeys::new(Hashing::start(2, 4).unwrap())
    }

    #[tokio::test]
    async fn derives_once() {
        let keys = derived_keys();
        let password = Masked::new("pencil");
        let (a, b) = tokio::join!(
            keys.get(&password, b"salt", 4096),
            keys.get(&password, b"salt", 4096)
        );
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(*a, ScramKeys::derive(b"pencil", b"salt", 4096));
    }

    #[tokio::test]
    async fn everything_that_matters_is_told_apart() {
        let keys = derived_keys();
        let get = async |password: &str, salt: &[u8], iterations| {
            let keys = keys.get(&Masked::new(password), salt, iterations).await;
            keys.unwrap()
        };
        let first = get("pencil", b"salt", 10).await;
        assert_ne!(first, get("pencil", b"salt", 11).await);
        assert_ne!(first, get("pencil", b"sal", 10).await);
        assert_ne!(first, get("tpencil", b"sal", 10).await);
        assert_ne!(first, get("Pencil", b"salt", 10).await);
        assert_eq!(first, get("pencil", b"salt", 10).await);
    }

    #[tokio::test]
    async fn a_vanished_caller_holds_nobody_up() {
        let keys = derived_keys();
        let password = Masked::new("pencil");
        {
            let get = keys.get(&password, b"salt", 100_000);
            tokio::pin!(get);
            let polled = futures_poll(get.as_mut()).await;
            assert!(!polled, "100,000 iterations cannot be over at once");
        }
        keys.get(&password, b"salt", 100_000).await.unwrap();
    }

    /// Polls once; whether it was ready.
    async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn forgets_rather_than_grows() {
        let keys = derived_keys();
        for number in 0..CAPACITY + 5 {
            keys.slot(&Masked::new(number.to_string()), b"salt", 1);
        }
        assert_eq!(keys.shared.slots.lock().unwrap().len(), 5);
    }
}
