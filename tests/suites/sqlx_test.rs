//! How the tests of sqlx get connections; see sqlx_test.toml.

use std::env;

use anyhow::Result;
use sqlx::pool::{Pool, PoolOptions};
use sqlx::{Connection, Database};

/// A connection to the server of `DATABASE_URL`.
pub async fn new<DB: Database>() -> Result<DB::Connection> {
    Ok(DB::Connection::connect(&env::var("DATABASE_URL")?).await?)
}

/// A small pool of them.
pub async fn pool<DB: Database>() -> Result<Pool<DB>> {
    let options = PoolOptions::new().max_connections(5);
    Ok(options.connect(&env::var("DATABASE_URL")?).await?)
}

/// Nothing is to be read from files.
pub fn setup_if_needed() {}
