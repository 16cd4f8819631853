//! Bookkeeping of one pool.
