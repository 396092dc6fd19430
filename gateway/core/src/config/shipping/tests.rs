//! The keys of `[[ship]]`, and those that delete.

use super::*;
use crate::config::daemon::{Config, load};

const LEAST: &str = "[datapath]\ninterfaces = [\"eth0\"]\n[recording]\nrecipient_key_file = \"/k.pub\"\n";

fn read(rest: &str) -> Config {
    load(&format!("{LEAST}{rest}"), "portreeve.toml").unwrap()
}

fn errors(rest: &str) -> String {
    load(&format!("{LEAST}{rest}"), "portreeve.toml").unwrap_err().to_string()
}

#[test]
fn without_destinations_nothing_is_shipped_or_deleted() {
    let config = read("");
    assert_eq!((config.ship, config.recording.retention), (Vec::new(), Retention::default()));
}

#[test]
fn every_kind_with_its_defaults() {
    let config = read(
        "[[ship]]\nname = \"a\"\nkind = \"directory\"\npath = \"/srv\"\n\
         [[ship]]\nname = \"b\"\nkind = \"s3\"\nbucket = \"r\"\ncredentials_file = \"/c\"\nprefix = \"/x/\"\n\
         [[ship]]\nname = \"c\"\nkind = \"http\"\nurl = \"https://h/{path}\"\nrequired = false\n",
    );
    let kinds: Vec<_> = config.ship.iter().map(|one| (&*one.name, one.kind_name(), one.required)).collect();
    assert_eq!(kinds, [("a", "directory", true), ("b", "s3", true), ("c", "http", false)]);
    let DestinationKind::S3(s3) = &config.ship[1].kind else { panic!("{:?}", config.ship[1]) };
    assert_eq!((&*s3.region, &*s3.prefix, s3.confirm), ("us-east-1", "x", StoreConfirm::Checksum));
    assert_eq!(config.recording.retention.keep, Some(KEEP), "what is shipped goes after a week");
}

#[test]
fn retention_is_read() {
    let config = read("keep = \"30d\"\nkeep_bytes = \"5KiB\"\ndelete_unshipped = true\n");
    let keep = Some(Duration::from_hours(30 * 24));
    let expected = Retention { keep, keep_bytes: Some(5 << 10), delete_unshipped: true };
    assert_eq!(config.recording.retention, expected);
}

#[test]
fn what_would_delete_the_only_copy_is_refused() {
    let told = errors("keep = \"7d\"\n");
    assert!(told.contains("recording.keep: nothing is deleted that no destination has"), "{told}");
    let directory = "[[ship]]\nname = \"a\"\nkind = \"directory\"\npath = \"/srv\"\n";
    let told = errors(&format!("delete_unshipped = true\n{directory}"));
    assert!(told.contains("recording.delete_unshipped: this is for a spool without destinations"), "{told}");
    let told = errors(&format!("{directory}required = false\n"));
    assert!(told.contains("ship[0]: one destination at least must be required"), "{told}");
}

#[test]
fn what_is_wrong_is_told_with_its_key() {
    for (text, told) in [
        ("kind = \"tape\"\nname = \"a\"", "ship[0].kind: \"tape\" is not possible here"),
        ("kind = \"directory\"\npath = \"/srv\"", "ship[0].name: this key is missing"),
        ("kind = \"directory\"\nname = \"a/b\"\npath = \"/srv\"", "ship[0].name: \"a/b\" is no name"),
        ("kind = \"directory\"\nname = \"a\"\npath = \"srv\"", "ship[0].path: \"srv\" is no absolute path"),
        (
            "kind = \"directory\"\nname = \"a\"\npath = \"/s\"\nbucket = \"b\"",
            "there is no key \"bucket\" here",
        ),
        (
            "kind = \"s3\"\nname = \"a\"\nbucket = \"b\"\ncredentials_file = \"/c\"\nendpoint = \"http://h\"",
            "ship[0].endpoint: \"http://h\" is without TLS",
        ),
        ("kind = \"http\"\nname = \"a\"\nurl = \"https://h/\"", "ship[0].url: write {path} once in it"),
        ("kind = \"http\"\nname = \"a\"\nurl = \"ftp://h/{path}\"", "is no URL"),
    ] {
        let found = errors(&format!("[[ship]]\n{text}\n"));
        assert!(found.contains(told), "{found}");
    }
    let twice = "[[ship]]\nname = \"a\"\nkind = \"directory\"\npath = \"/srv\"\n".repeat(2);
    assert!(errors(&twice).contains("ship[1]: two destinations are named \"a\""));
}
