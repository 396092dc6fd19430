//! The machine's accounts with that of a seed.
//!
//! The root file system is read-only: the account's lines go into copies below `/run`, which mount units lay over the
//! files. A directory that has none is no machine, but where somebody looks at what a seed makes.

use std::fs;
use std::io;
use std::path::Path;

use portreeve_core::config::seed::{Account, File};

use super::ProvisionError;

/// Copies of the machine's accounts with that of the seed.
pub(super) fn files(root: &Path, account: Option<&Account>) -> Result<Vec<File>, ProvisionError> {
    let Some(account) = account else { return Ok(Vec::new()) };
    let name = &account.name;
    let lines = [
        ("passwd", 0o644, format!("{name}:x:0:0:break-glass:/:/bin/bash")),
        ("shadow", 0o600, format!("{name}:{}:20000::::::", account.password)),
    ];
    let mut files = Vec::new();
    for (file, mode, line) in lines {
        let path = root.join("etc").join(file);
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            before => before.map_err(|source| ProvisionError::Io { action: "read", path, source })?,
        };
        files.push(File {
            path: format!("/run/portreeve/{file}"),
            mode,
            text: with_account(&before, name, &line),
        });
    }
    Ok(files)
}

/// The file with the line for an account, in place of another for it.
fn with_account(before: &str, name: &str, line: &str) -> String {
    let own = |line: &&str| line.split(':').next() == Some(name);
    let mut lines: Vec<&str> = before.lines().filter(|line| !own(line)).collect();
    lines.push(line);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_one_line() {
        let before = "root:*:1::::::\nkeeper:old:1::::::\nkeeper2:x:1::::::\n";
        let after = with_account(before, "keeper", "keeper:new:2::::::");
        assert_eq!(after, "root:*:1::::::\nkeeper2:x:1::::::\nkeeper:new:2::::::\n");
    }
}
