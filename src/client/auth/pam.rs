//! Asks the machine's Pluggable Authentication Modules: service `pgbouncer`, so
//! that `/etc/pam.d/pgbouncer` decides as it does for PgBouncer.

use std::ffi::{OsStr, OsString};

use nonstick::items::ItemsMut;
use nonstick::{
    AuthnFlags, ConversationAdapter, ErrorCode, PamShared, Transaction, TransactionBuilder,
};

use super::entrust::{Denial, Question};
use crate::auth::Masked;

const SERVICE: &str = "pgbouncer";

/// Whether the password is right, and the account in order. Blocks for as long as
/// the modules like.
pub(super) fn check(question: &Question) -> Result<(), Denial> {
    ask(question).map_err(|code| match code {
        ErrorCode::AuthenticationError
        | ErrorCode::UserUnknown
        | ErrorCode::PermissionDenied
        | ErrorCode::MaxTries
        | ErrorCode::AccountExpired
        | ErrorCode::CredentialsExpired
        | ErrorCode::NewAuthTokRequired
        | ErrorCode::AuthTokExpired => Denial::Denied(code.to_string()),
        _ => Denial::Unable(code.to_string()),
    })
}

fn ask(question: &Question) -> nonstick::Result<()> {
    let answers = Answers(&question.password);
    let mut transaction = TransactionBuilder::new_with_service(SERVICE)
        .username(&question.user)
        .build(answers.into_conversation())?;
    // As PostgreSQL does (src/backend/libpq/auth.c, CheckPAMAuth).
    let from = question.from.as_deref().unwrap_or("[local]");
    let mut items = transaction.items_mut();
    items.set_remote_host(Some(OsStr::new(from)))?;
    drop(items);
    transaction.authenticate(AuthnFlags::empty())?;
    transaction.account_management(AuthnFlags::empty())
}

/// Knows nothing but the password. What modules want to tell the user would come
/// before it is known who that is.
struct Answers<'a>(&'a Masked);

impl ConversationAdapter for Answers<'_> {
    fn prompt(&self, _: impl AsRef<OsStr>) -> nonstick::Result<OsString> {
        Err(ErrorCode::ConversationError)
    }

    fn masked_prompt(&self, _: impl AsRef<OsStr>) -> nonstick::Result<OsString> {
        Ok(OsString::from(self.0.reveal()))
    }

    fn error_msg(&self, _: impl AsRef<OsStr>) {}

    fn info_msg(&self, _: impl AsRef<OsStr>) {}
}
