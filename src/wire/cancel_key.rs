//! What the keys for cancel requests say besides being secret: which of several
//! processes gave them. PgBouncer's layout (src/client.c, src/proto.c), so that
//! its processes may be among the peers; bytes are counted over the process id
//! and the key that follows it:
//!
//! | byte | |
//! |---|---|
//! | 0 | its highest bits are 01: see [`process_id`] |
//! | 1, 2 | number of the process, the low byte first |
//! | 7 | the two lowest bits: how often the request may still be handed on |
//!
//! Everything else is random: 44 bits, and 224 more in a key of protocol 3.2.

/// The largest number of a process; PgBouncer's documented limit.
pub const MAX_PEER: u32 = 16_383;

const HOPS: u8 = 0b11;
/// Where the hops are in the key, which has at least four bytes.
const AT: usize = 3;

/// A process id to give. It is positive, as process ids are, and larger than Linux
/// makes them (`PID_MAX_LIMIT`, 2^22), so that no server has a process of this id: who
/// takes it for one, as for `pg_terminate_backend()`, hits nobody.
pub fn process_id(random: u32) -> u32 {
    random >> 2 | 1 << 30
}

/// The process that gave this process id.
pub fn peer(pid: u32) -> u32 {
    let [_, low, high, _] = pid.to_be_bytes();
    u32::from_le_bytes([low, high, 0, 0])
}

/// Marks a process id as given by this process.
pub fn mark_pid(pid: u32, peer: u32) -> u32 {
    let [first, _, _, last] = pid.to_be_bytes();
    let [low, high, _, _] = peer.to_le_bytes();
    u32::from_be_bytes([first, low, high, last])
}

/// Lets the key be handed on as often as can be. So does every key look again
/// where it was given, however it came there.
pub fn mark_key(key: &mut [u8]) {
    if let Some(byte) = key.get_mut(AT) {
        *byte |= HOPS;
    }
}

/// Takes one hop off; false: none is left.
pub fn take_hop(key: &mut [u8]) -> bool {
    match key.get_mut(AT) {
        Some(byte) if *byte & HOPS > 0 => {
            *byte -= 1;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_pgbouncers() {
        // As PgBouncer 1.25 with peer_id = 2 * 256 + 1 marks eight bytes of ones.
        let pid = mark_pid(0x7fff_ffff, 0x0201);
        assert_eq!(pid.to_be_bytes(), [0x7f, 0x01, 0x02, 0xff]);
        let mut key = [0xa0; 4];
        mark_key(&mut key);
        assert_eq!(key, [0xa0, 0xa0, 0xa0, 0xa3]);
        for number in [0, 1, 255, 256, MAX_PEER] {
            assert_eq!(peer(mark_pid(0x1234_5678, number)), number);
        }
    }

    #[test]
    fn no_server_has_a_process_of_this_id() {
        for random in [0, 1, 0x1234_5678, u32::MAX] {
            for peer in [0, 1, MAX_PEER] {
                let pid = mark_pid(process_id(random), peer);
                assert!(pid > 1 << 22 && pid <= i32::MAX as u32, "{pid}");
            }
        }
    }

    #[test]
    fn a_key_is_handed_on_three_times_and_is_then_itself_again() {
        for length in [4, 32] {
            let mut given = vec![0xfc; length];
            mark_key(&mut given);
            let mut key = given.clone();
            assert!(take_hop(&mut key) && take_hop(&mut key) && take_hop(&mut key));
            assert!(!take_hop(&mut key), "{key:?}");
            mark_key(&mut key);
            assert_eq!(key, given);
        }
        assert!(!take_hop(&mut [0xff; 3]));
    }
}
