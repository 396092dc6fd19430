//! The questions, and what was answered.

use std::io::{self, BufRead, Write};

use portreeve_core::config::seed::answers::{Addressed, Answers};
use portreeve_core::envelope::RecipientPrivateKey;

/// Reads what must not be shown; it is asked for with [`ask_password`] once nothing that is typed is shown.
type Secret<R, W> = fn(&mut R, &mut W) -> io::Result<String>;

/// A conversation with whoever sets the machine up.
pub(super) struct Dialogue<R, W> {
    input: R,
    output: W,
    /// Network cards of the machine.
    cards: Vec<String>,
    secret: Secret<R, W>,
}

impl<R: BufRead, W: Write> Dialogue<R, W> {
    pub(super) fn new(input: R, output: W, cards: Vec<String>, secret: Secret<R, W>) -> Self {
        Self { input, output, cards, secret }
    }

    /// Asks everything.
    pub(super) fn answers(&mut self) -> io::Result<Answers> {
        self.say("What is empty is left out; what stands in brackets is taken then. Several are separated by spaces.\n")?;
        let hostname = self.ask("Name of this machine", "gateway-1")?;
        let account = self.account()?;
        let interfaces = self.interfaces()?;
        let first = interfaces.first().map(|interface| interface.name.clone()).unwrap_or_default();
        Ok(Answers {
            hostname,
            account,
            interfaces,
            routers: self.list("Routers to everything else (addresses)", "")?,
            users_on: self.list("Interfaces where users' connections come in", &first)?,
            ntp: self.list("Time servers", "")?,
            targets: self.rows("Targets, one a line: NAME ADDRESS")?,
            users: self.rows("Users, one a line: E-MAIL ADDRESS")?,
            logins: self.list("Logins that they may take at all targets", "root")?,
            recipient: self.recipient()?,
            ship: Some(self.ask("URL that recordings are put to, with {path} in it", "")?)
                .filter(|url| !url.is_empty()),
        })
    }

    /// Shows a seed without its hash, and asks whether it is meant.
    pub(super) fn agreed(&mut self, seed: &str) -> io::Result<bool> {
        let shown: Vec<&str> = seed.lines().filter(|line| !line.starts_with("password = ")).collect();
        self.say(&format!("\n{}\n", shown.join("\n")))?;
        Ok(self.ask("Is this right? yes or no", "no")? == "yes")
    }

    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.output, "{text}")?;
        self.output.flush()
    }

    fn account(&mut self) -> io::Result<Option<(String, String)>> {
        let name = self.ask("Account for this console, or none", "keeper")?;
        if name == "none" {
            return Ok(None);
        }
        loop {
            match (self.secret)(&mut self.input, &mut self.output) {
                Ok(hash) => {
                    self.say("")?;
                    return Ok(Some((name, hash)));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.say(&format!("\n{error}"))?
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn interfaces(&mut self) -> io::Result<Vec<Addressed>> {
        let mut interfaces = Vec::new();
        for name in self.cards.clone() {
            let mut addresses = self.list(&format!("Addresses of {name}, as 192.0.2.1/24, or dhcp"), "")?;
            let dhcp = addresses.iter().any(|address| address == "dhcp");
            addresses.retain(|address| address != "dhcp");
            if dhcp || !addresses.is_empty() {
                interfaces.push(Addressed { name, addresses, dhcp });
            }
        }
        Ok(interfaces)
    }

    fn recipient(&mut self) -> io::Result<String> {
        let given = self.ask("Recipient's public key (44 characters), or new to make one", "")?;
        if given != "new" {
            return Ok(given);
        }
        let private = RecipientPrivateKey::generate(&mut rand::rng());
        self.say("\nThe private key opens all recordings. It is shown once, and not kept on this machine: copy it now.\n")?;
        self.say(&format!("    {}\n", private.to_base64().as_str()))?;
        self.ask("Enter when it is copied", "")?;
        Ok(private.recipient_key().to_string())
    }

    fn ask(&mut self, question: &str, default: &str) -> io::Result<String> {
        let brackets = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        write!(self.output, "{question}{brackets}: ")?;
        self.output.flush()?;
        let answer = self.line()?;
        Ok(if answer.is_empty() { default.to_owned() } else { answer })
    }

    fn list(&mut self, question: &str, default: &str) -> io::Result<Vec<String>> {
        let answer = self.ask(question, default)?;
        Ok(answer.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    /// Pairs of words, a line each, up to an empty line.
    fn rows(&mut self, question: &str) -> io::Result<Vec<(String, String)>> {
        self.say(&format!("{question}; an empty line ends them"))?;
        let mut rows = Vec::new();
        loop {
            let line = self.line()?;
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (None, ..) => return Ok(rows),
                (Some(first), Some(second), None) => rows.push((first.to_owned(), second.to_owned())),
                _ => self.say("two words, please")?,
            }
        }
    }

    /// The end of the input ends the dialogue.
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim().to_owned())
    }
}

/// Asks for the password of the account.
pub(super) fn ask_password(output: &mut impl Write) -> io::Result<()> {
    write!(output, "Its password: ")?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use portreeve_core::config::seed;

    use super::*;

    fn asked(input: &str) -> (io::Result<Answers>, String) {
        let mut output = Vec::new();
        let cards = vec!["lan0".to_owned(), "wan0".to_owned()];
        let secret = |_: &mut &[u8], _: &mut _| Ok("$6$salt$0123456789abcdef".to_owned());
        let answers = Dialogue::new(input.as_bytes(), &mut output, cards, secret).answers();
        (answers, String::from_utf8(output).unwrap())
    }

    const REST: &str = "192.0.2.1/24, 2001:db8::1/64\ndhcp\n\n\n192.0.2.123\ndb 10.1.2.3\nweb\nweb 10.1.2.4\n\nalice@example.com 192.0.2.10\n\n\n";

    #[test]
    fn a_dialogue_with_a_new_key_makes_a_seed_and_shows_the_private_half_once() {
        let (answers, output) = asked(&format!("gw7\n\n{REST}new\n\n\n"));
        let answers = answers.unwrap();
        assert_eq!(answers.targets.len(), 2, "what is no pair is asked for again");
        assert_eq!(answers.users_on, ["lan0"]);
        assert_eq!(answers.account.as_ref().map(|(name, _)| name.as_str()), Some("keeper"));
        let text = answers.seed();
        seed::load(&text, "seed").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let private = output.lines().find_map(|line| line.strip_prefix("    ")).unwrap();
        let private: RecipientPrivateKey = private.parse().unwrap();
        assert_eq!(private.recipient_key().to_string(), answers.recipient);
        assert!(!text.contains(private.to_base64().as_str()));
    }

    #[test]
    fn an_input_that_ends_is_an_error_and_the_hash_is_not_shown() {
        assert!(asked("gw7\n").0.is_err());
        let mut output = Vec::new();
        let mut dialogue = Dialogue::new(&b"yes\n"[..], &mut output, Vec::new(), |_, _| Ok(String::new()));
        assert!(dialogue.agreed("a = 1\npassword = \"$6$\"\n").unwrap());
        drop(dialogue);
        assert!(!String::from_utf8(output).unwrap().contains("$6$"));
    }
}
