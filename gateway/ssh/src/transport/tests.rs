//! Tests of the transport: two of them joined in memory, and one against a scripted peer.

mod algorithms;
mod budget;
mod first_exchange;
mod login;
mod pair;
mod rekey;
mod scripted;

use self::pair::{Pair, Which, host_key, server_config};
use self::scripted::Scripted;
use super::*;
