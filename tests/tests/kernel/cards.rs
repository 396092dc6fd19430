//! The network cards of a virtual machine: two pairs, each joined to one another.
//!
//! Cards cannot be made as veth devices can, so one network has them at a time, and gives them back.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

static TAKEN: Mutex<()> = Mutex::new(());

/// Cards by the last byte of their hardware addresses, and where each is in a network.
const PLACES: [(u8, &str, &str); 4] =
    [(1, "c", "eth0"), (2, "g", "lan.10"), (3, "g", "wan0"), (4, "s", "eth0")];

/// The right to the cards.
pub(crate) struct Cards {
    _taken: MutexGuard<'static, ()>,
}

impl Cards {
    /// Waits for the cards.
    pub(crate) fn take() -> Self {
        Self { _taken: TAKEN.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Puts the card of a place into its namespace.
    pub(crate) fn plug(&self, side: &str, device: &str, netns: &str) {
        let (card, ..) = PLACES.into_iter().find(|place| (place.1, place.2) == (side, device)).unwrap();
        let own = format!("52:54:00:00:00:{card:02x}");
        let has_it = |name: &str| {
            fs::read_to_string(format!("/sys/class/net/{name}/address"))
                .is_ok_and(|found| found.trim() == own)
        };
        let all = fs::read_dir("/sys/class/net").unwrap();
        let mut names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = names.find(|name| has_it(name)).unwrap_or_else(|| panic!("no card {own}"));
        let words = ["link", "set", "dev", &name, "netns", netns, "name", device];
        assert!(Command::new("ip").args(words).status().unwrap().success(), "{words:?}");
    }

    /// Takes those back that are in a namespace; its name is `name` with the side.
    pub(crate) fn give_back(&self, name: &str) {
        for (card, side, device) in PLACES {
            let (netns, idle) = (format!("--net=/run/netns/{name}{side}"), format!("card{card}"));
            let words = [&netns, "ip", "link", "set", "dev", device, "netns", "1", "name", &idle];
            // What is not there was not plugged.
            drop(Command::new("nsenter").args(words).output());
        }
    }
}
