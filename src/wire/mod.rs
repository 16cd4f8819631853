//! The wire: frames, tags, startup packets, names in messages.
