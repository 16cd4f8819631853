//! The stats port.
