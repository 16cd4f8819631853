//! A thread with its runtime, clients and server connections.
