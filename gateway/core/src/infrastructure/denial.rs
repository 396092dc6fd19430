//! Why a login was not granted, for logs and for the user.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use thiserror::Error;

use crate::login::Login;
use crate::net::OriginalDst;

/// How many of the granted logins the user is shown.
const SHOWN_LOGINS: usize = 10;

/// Why a login was not granted. A denial is not an error; `Display` is for logs, and
/// [`Denial::user_text`] for the user's terminal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denial {
    /// No target has this address.
    #[error("{0} is no target")]
    NoTarget(OriginalDst),
    /// No policy of the target's applications matches the user.
    #[error("no policy grants {email} access to {hostname}")]
    NoPolicy {
        /// Who asked.
        email: String,
        /// Hostname of the target.
        hostname: String,
    },
    /// Policies match, but none grants this login.
    #[error("no policy grants {email} the login {login} on {hostname}")]
    LoginNotGranted {
        /// Who asked.
        email: String,
        /// Hostname of the target.
        hostname: String,
        /// The login asked for.
        login: Login,
        /// The logins this user does have there.
        granted: BTreeSet<Login>,
    },
}

impl Denial {
    /// What the user reads: what was denied, which logins they do have there, and whom to ask. Lines
    /// are separated by `\n`; the last one is not terminated.
    pub fn user_text(&self) -> String {
        let mut text = match self {
            Self::NoTarget(dst) => format!("Access denied: {dst} is not a target of this gateway."),
            Self::NoPolicy { email, hostname } => {
                format!("Access denied: no policy lets {email} log in to {hostname}.")
            }
            Self::LoginNotGranted { email, hostname, login, granted } => {
                let mut text = format!("Access denied: {email} may not log in to {hostname} as {login}.\n");
                push_logins(&mut text, granted);
                text
            }
        };
        text.push_str(
            "\nIf you need this access, ask the people who run this gateway and show them this text.",
        );
        text
    }
}

fn push_logins(text: &mut String, granted: &BTreeSet<Login>) {
    if granted.is_empty() {
        text.push_str("Your policies there grant no login.");
        return;
    }
    text.push_str("You may log in as: ");
    for (index, login) in granted.iter().take(SHOWN_LOGINS).enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(login.as_str());
    }
    if let Some(more @ 1..) = granted.len().checked_sub(SHOWN_LOGINS) {
        // Writing to a String cannot fail.
        write!(text, " and {more} more").unwrap_or_default();
    }
    text.push('.');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_granted(granted: &[&str]) -> Denial {
        Denial::LoginNotGranted {
            email: "alice@example.com".to_owned(),
            hostname: "db".to_owned(),
            login: Login::new("root").unwrap(),
            granted: granted.iter().map(|login| Login::new(login).unwrap()).collect(),
        }
    }

    #[test]
    fn texts_for_the_terminal() {
        let ask = "If you need this access, ask the people who run this gateway and show them this text.";
        let cases = [
            (
                Denial::NoTarget(OriginalDst::new("192.0.2.1:22".parse().unwrap())),
                "Access denied: 192.0.2.1:22 is not a target of this gateway.".to_owned(),
            ),
            (
                Denial::NoPolicy { email: "bob@example.com".to_owned(), hostname: "db".to_owned() },
                "Access denied: no policy lets bob@example.com log in to db.".to_owned(),
            ),
            (
                not_granted(&["deploy", "alice"]),
                "Access denied: alice@example.com may not log in to db as root.\n\
                 You may log in as: alice, deploy."
                    .to_owned(),
            ),
            (
                not_granted(&[]),
                "Access denied: alice@example.com may not log in to db as root.\n\
                 Your policies there grant no login."
                    .to_owned(),
            ),
        ];
        for (denial, expected) in cases {
            assert_eq!(denial.user_text(), format!("{expected}\n{ask}"));
        }
    }

    #[test]
    fn a_long_list_of_logins_is_cut() {
        let logins: Vec<String> = (0..13).map(|n| format!("u{n:02}")).collect();
        let logins: Vec<&str> = logins.iter().map(String::as_str).collect();
        let text = not_granted(&logins).user_text();
        assert!(text.contains("u08, u09 and 3 more.\n"), "{text}");
        assert!(!text.contains("u10"), "{text}");
    }
}
