//! Message types of each direction, as enums. PostgreSQL source:
//! src/include/libpq/protocol.h.

macro_rules! tags {
    ($(#[$doc:meta])* $enum:ident { $($name:ident = $byte:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $enum {
            $($name = $byte),*
        }

        impl $enum {
            /// `None` for a byte that is not a message type of this direction.
            pub fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some($enum::$name),)*
                    _ => None,
                }
            }
        }
    };
}

tags! {
    /// Messages from a client, after login.
    FrontendTag {
        Bind = b'B',
        Close = b'C',
        CopyData = b'd',
        CopyDone = b'c',
        CopyFail = b'f',
        Describe = b'D',
        Execute = b'E',
        Flush = b'H',
        FunctionCall = b'F',
        Parse = b'P',
        Query = b'Q',
        Sync = b'S',
        Terminate = b'X',
    }
}

tags! {
    /// Messages from a server, after login.
    BackendTag {
        ParseComplete = b'1',
        BindComplete = b'2',
        CloseComplete = b'3',
        NotificationResponse = b'A',
        CommandComplete = b'C',
        DataRow = b'D',
        ErrorResponse = b'E',
        CopyInResponse = b'G',
        CopyOutResponse = b'H',
        EmptyQueryResponse = b'I',
        NoticeResponse = b'N',
        ParameterStatus = b'S',
        RowDescription = b'T',
        FunctionCallResponse = b'V',
        CopyBothResponse = b'W',
        ReadyForQuery = b'Z',
        CopyDone = b'c',
        CopyData = b'd',
        NoData = b'n',
        PortalSuspended = b's',
        ParameterDescription = b't',
    }
}

/// The byte in ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a transaction block that has failed.
    Failed,
}

impl TxStatus {
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(TxStatus::Idle),
            b'T' => Some(TxStatus::InTransaction),
            b'E' => Some(TxStatus::Failed),
            _ => None,
        }
    }
}
