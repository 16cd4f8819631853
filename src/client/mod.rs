//! One client: startup, login, session, cancel.
