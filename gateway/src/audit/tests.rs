//! Chain and keys on a real file system: order, crashes at each point, two gateways at once, rotation.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portreeve_core::manifest::{
    Chain, ChainFinding, ChainHead, DocumentError, Ended, Link, Manifest, Sha256, Shipped, Signed,
    TrustedKeys, read, read_unproven,
};
use portreeve_core::utc::UtcTime;
use tempfile::TempDir;

use super::*;

struct Scratch {
    root: TempDir,
}

impl Scratch {
    fn new() -> Self {
        // In memory where there is such a place: what is synced would wait for all that a busy disk has to write.
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let scratch = Self { root: memory.unwrap() };
        fs::create_dir(scratch.spool()).unwrap();
        scratch
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn spool(&self) -> PathBuf {
        self.root.path().join("spool")
    }

    fn journal(&self) -> PathBuf {
        self.state().join("audit_chain/journal")
    }

    fn open(&self) -> Arc<AuditChain> {
        Arc::new(AuditChain::open(&self.state()).unwrap())
    }

    /// A session whose files are written.
    fn closing(&self, name: &str) -> Closing {
        let part = self.spool().join(format!("{name}.part"));
        fs::create_dir(&part).unwrap();
        fs::write(part.join("events.log"), name).unwrap();
        Closing { part, started: time(0), closed: time(5), ended: Ended::Finished, files: Vec::new() }
    }

    /// The manifests of finished directories by number; each must be there once.
    fn manifests(&self) -> BTreeMap<u64, Signed<Manifest>> {
        let mut manifests = BTreeMap::new();
        for entry in fs::read_dir(self.spool()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some() || path.ends_with("heads") {
                continue;
            }
            let names: Vec<_> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 2, "{path:?}: {names:?}");
            let manifest: Signed<Manifest> =
                read_unproven(&fs::read(path.join(Manifest::FILE)).unwrap()).unwrap();
            assert_eq!(Some(manifest.content.directory.as_str()), path.file_name().unwrap().to_str());
            assert!(manifests.insert(manifest.content.sequence, manifest).is_none(), "a number twice");
        }
        manifests
    }

    fn findings(&self) -> Vec<ChainFinding> {
        let mut chain = Chain::default();
        for manifest in self.manifests().values() {
            let Manifest { sequence, previous, .. } = manifest.content;
            chain.add_link(Link { sequence, manifest: manifest.sha256, previous: Some(previous) });
        }
        let journal = journal::Journal::read(&self.state().join("audit_chain")).unwrap().position();
        chain.add_head(journal.sequence, journal.manifest);
        chain.findings(1)
    }

    fn assert_whole(&self, sessions: usize) {
        assert_eq!(self.manifests().len(), sessions);
        if sessions > 0 {
            assert_eq!(self.findings(), []);
        }
    }
}

fn time(seconds: u64) -> UtcTime {
    UtcTime::from_unix_seconds(1_700_000_000 + seconds)
}

#[test]
fn the_first_start_makes_a_private_key_and_a_chain_and_others_keep_them() {
    let scratch = Scratch::new();
    scratch.open();
    let key = fs::read(scratch.state().join("audit_key")).unwrap();
    let mode = fs::metadata(scratch.state().join("audit_key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let base = fs::read(scratch.journal()).unwrap();
    scratch.open();
    assert_eq!(fs::read(scratch.state().join("audit_key")).unwrap(), key);
    assert_eq!(fs::read(scratch.journal()).unwrap(), base);
}

#[test]
fn an_exposed_or_lost_key_signs_nothing() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    let path = scratch.state().join("audit_key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = chain.close_all(vec![scratch.closing("1-a")]).unwrap_err().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
    fs::remove_file(&path).unwrap();
    let refused = AuditChain::open(&scratch.state()).unwrap_err();
    assert!(matches!(refused, AuditError::KeyMissing { .. }), "{refused}");
    assert!(scratch.spool().join("1-a.part").is_dir(), "it stays for the next start");
    assert!(!path.exists(), "no other key is made in its place");
}

#[tokio::test]
async fn sessions_that_close_together_get_one_number_each() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    let sessions: Vec<_> = (0..40)
        .map(|n| {
            let (chain, closing) = (Arc::clone(&chain), scratch.closing(&format!("{n}-session")));
            tokio::spawn(async move { chain.close(closing).await })
        })
        .collect();
    for session in sessions {
        session.await.unwrap().unwrap();
    }
    scratch.assert_whole(40);
}

#[test]
fn two_gateways_share_the_chain() {
    let scratch = Scratch::new();
    let gateways = [scratch.open(), scratch.open()];
    let sessions: Vec<Vec<Closing>> =
        (0..2).map(|gateway| (0..30).map(|n| scratch.closing(&format!("{gateway}-{n}"))).collect()).collect();
    std::thread::scope(|scope| {
        for (chain, sessions) in gateways.iter().zip(sessions) {
            scope.spawn(move || {
                for session in sessions {
                    chain.close_all(vec![session]).unwrap();
                }
            });
        }
    });
    scratch.assert_whole(60);
}

#[test]
fn a_closing_whose_caller_has_gone_is_completed() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let closing = scratch.closing("1-a");
        let session = tokio::spawn({
            let chain = Arc::clone(&chain);
            async move { chain.close(closing).await }
        });
        while scratch.open().head(time(9)).unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        session.abort();
        drop(session.await);
    });
    drop(runtime);
    scratch.assert_whole(1);
}

#[test]
fn a_crash_before_the_journal_counts_leaves_the_number_free() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    chain.close_all(vec![scratch.closing("1-a")]).unwrap();
    let whole = fs::read(scratch.journal()).unwrap();
    chain.sign_all(&[scratch.closing("2-b")]).unwrap();
    let line = fs::read(scratch.journal()).unwrap()[whole.len()..].to_vec();
    // Every length that a torn write can have, the newline never on disk.
    for cut in [0, 1, line.len() / 2, line.len() - 1] {
        fs::write(scratch.journal(), [&whole, &line[..cut]].concat()).unwrap();
        let chain = scratch.open();
        assert!(scratch.spool().join("2-b.part").is_dir(), "nothing counts yet");
        assert!(!scratch.spool().join("2-b.part").join(Manifest::FILE).exists());
        let name = format!("3-{cut}");
        chain.close_all(vec![scratch.closing(&name)]).unwrap();
        scratch.assert_whole(2);
        fs::remove_dir_all(scratch.spool().join(name)).unwrap();
    }
}

#[test]
fn a_crash_after_the_journal_counts_is_completed_at_each_point() {
    type Point = fn(&Path, &str);
    let points: [(&str, Point); 4] = [
        ("no manifest", |_, _| {}),
        ("half a manifest", |part, document| {
            fs::write(part.join("manifest.json.77-0.tmp"), &document[..document.len() / 2]).unwrap();
        }),
        ("not renamed", |part, document| fs::write(part.join(Manifest::FILE), document).unwrap()),
        ("renamed, and the manifest lost with the power", |part, _| {
            fs::write(part.join(Manifest::FILE), "").unwrap();
            fs::rename(part, part.with_extension("")).unwrap();
        }),
    ];
    for (name, point) in points {
        let scratch = Scratch::new();
        let chain = scratch.open();
        let signed = chain.sign_all(&[scratch.closing("1-a"), scratch.closing("2-b")]).unwrap();
        drop(chain);
        point(&signed[0].part, &signed[0].document);
        let chain = scratch.open();
        assert_eq!(scratch.manifests().len(), 2, "{name}");
        chain.close_all(vec![scratch.closing("3-c")]).unwrap();
        scratch.assert_whole(3);
    }
}

#[test]
fn a_session_that_was_deleted_since_is_not_missed() {
    let scratch = Scratch::new();
    scratch.open().close_all(vec![scratch.closing("1-a")]).unwrap();
    fs::remove_dir_all(scratch.spool().join("1-a")).unwrap();
    let chain = scratch.open();
    assert!(!scratch.spool().join("1-a").exists());
    chain.close_all(vec![scratch.closing("2-b")]).unwrap();
    assert_eq!(scratch.manifests()[&2].content.sequence, 2);
}

#[test]
fn a_long_journal_is_begun_again_and_the_chain_goes_on() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    for round in 0..2 {
        let closings = (0..1_100).map(|n| scratch.closing(&format!("{round}-{n}"))).collect();
        chain.close_all(closings).unwrap();
    }
    assert!(fs::metadata(scratch.journal()).unwrap().len() < 2 * 1024 * 1024);
    scratch.assert_whole(2_200);
    // One that still holds the old file sees the new one.
    scratch.open().close_all(vec![scratch.closing("9-z")]).unwrap();
    chain.close_all(vec![scratch.closing("9-y")]).unwrap();
    scratch.assert_whole(2_202);
}

#[test]
fn a_damaged_journal_is_refused_with_the_line() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    chain.close_all(vec![scratch.closing("1-a")]).unwrap();
    let text = fs::read_to_string(scratch.journal()).unwrap();
    fs::write(scratch.journal(), text.replacen("{\"batch\"", "{\"botch\"", 1)).unwrap();
    let error = AuditChain::open(&scratch.state()).unwrap_err().to_string();
    assert!(error.contains("damaged in line 2"), "{error}");
    fs::write(scratch.journal(), "").unwrap();
    assert!(AuditChain::open(&scratch.state()).is_err());
}

#[test]
fn a_journal_that_cannot_be_written_gives_no_number() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    let mut closing = scratch.closing("1-a");
    let (there, away) = (scratch.state().join("audit_chain"), scratch.state().join("away"));
    fs::rename(&there, &away).unwrap();
    assert!(chain.close_all(vec![closing.clone()]).is_err());
    assert!(closing.part.is_dir());
    fs::rename(&away, &there).unwrap();
    closing.ended = Ended::Abandoned;
    chain.close_all(vec![closing]).unwrap();
    scratch.assert_whole(1);
}

#[test]
fn a_rotation_is_signed_by_the_old_key_and_holds_for_a_gateway_that_runs() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    chain.close_all(vec![scratch.closing("1-a")]).unwrap();
    let old = public_keys(&scratch.state()).unwrap();
    let new = rotate(&scratch.state(), time(9)).unwrap();
    assert_eq!(public_keys(&scratch.state()).unwrap(), [new, old[0]]);
    chain.close_all(vec![scratch.closing("2-b")]).unwrap();
    scratch.assert_whole(2);
    let signers: Vec<_> = scratch.manifests().values().map(|manifest| manifest.signer).collect();
    assert_eq!(signers, [old[0], new]);
    let newest = rotate(&scratch.state(), time(10)).unwrap();
    assert_eq!(public_keys(&scratch.state()).unwrap(), [newest, new, old[0]]);
    assert_eq!(fs::metadata(scratch.state().join("audit_key")).unwrap().permissions().mode() & 0o777, 0o600);

    chain.write_head(&scratch.spool()).unwrap();
    let mut trusted = TrustedKeys::default();
    trusted.add(old[0]);
    let document = |key: portreeve_core::manifest::AuditPublicKey| {
        fs::read(scratch.spool().join(format!("heads/key-{}.json", key.id()))).unwrap()
    };
    let first = read::<portreeve_core::manifest::KeySuccession>(&document(new), &trusted).unwrap();
    assert_eq!(first.content.successor, new);
    let unknown = read::<portreeve_core::manifest::KeySuccession>(&document(newest), &trusted);
    assert!(matches!(unknown, Err(DocumentError::UnknownKey(signer)) if signer == new));
}

#[test]
fn a_rotation_that_was_cut_is_completed_by_the_next_one() {
    let scratch = Scratch::new();
    scratch.open();
    // As after a crash before the last step: the old key is in force, the new one waits.
    let next = scratch.state().join("audit_key.new");
    let (key, text) = portreeve_core::manifest::AuditKey::from_seed(&[5; 32]).unwrap();
    crate::secret_file::write_new(&next, text.as_bytes()).unwrap();
    assert_eq!(rotate(&scratch.state(), time(2)).unwrap(), key.public_key());
    assert!(!next.exists());
    assert_eq!(public_keys(&scratch.state()).unwrap().len(), 2);
}

#[test]
fn heads_are_written_when_the_chain_has_grown_and_name_the_newest_manifest() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    let heads = || fs::read_dir(scratch.spool().join("heads")).map_or(0, Iterator::count);
    chain.write_head(&scratch.spool()).unwrap();
    assert_eq!(heads(), 0, "there is no session yet");
    chain.close_all(vec![scratch.closing("1-a"), scratch.closing("2-b")]).unwrap();
    chain.write_head(&scratch.spool()).unwrap();
    chain.write_head(&scratch.spool()).unwrap();
    assert_eq!(heads(), 1);
    chain.close_all(vec![scratch.closing("3-c")]).unwrap();
    scratch.open().write_head(&scratch.spool()).unwrap();
    assert_eq!(heads(), 2);
    let manifests = scratch.manifests();
    for entry in fs::read_dir(scratch.spool().join("heads")).unwrap() {
        let path = entry.unwrap().path();
        let head: Signed<ChainHead> = read_unproven(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(head.content.manifest, manifests[&head.content.sequence].sha256);
        assert_eq!(path.file_name().unwrap().to_str(), Some(head.content.file_name().as_str()));
    }
}

#[test]
fn deletions_are_signed_and_follow_a_torn_one_on_a_line_of_their_own() {
    let scratch = Scratch::new();
    let chain = scratch.open();
    chain.close_all(vec![scratch.closing("1-a"), scratch.closing("2-b")]).unwrap();
    let (spool, log) = (scratch.spool(), scratch.spool().join("shipped.log"));
    let delete = |name: &str| {
        let deletion = chain.deletion(&spool.join(name), "archive", time(9)).unwrap();
        deletion.map_or(Ok(()), |deletion| chain.will_delete(&spool, &[deletion])).unwrap();
    };
    delete("1-a");
    let first = fs::read_to_string(&log).unwrap();
    let shipped: Signed<Shipped> = read_unproven(first.as_bytes()).unwrap();
    assert_eq!(shipped.content.manifest, scratch.manifests()[&1].sha256);
    assert_eq!((shipped.content.sequence, shipped.content.destination.as_str()), (1, "archive"));
    fs::write(&log, &first[..first.len() - 5]).unwrap();
    delete("2-b");
    let text = fs::read_to_string(&log).unwrap();
    let second = text.strip_prefix(&first[..first.len() - 5]).unwrap().strip_prefix('\n').unwrap();
    assert_eq!(read_unproven::<Shipped>(second.as_bytes()).unwrap().content.sequence, 2);
    fs::create_dir(spool.join("0-before")).unwrap();
    delete("0-before");
    assert_eq!(fs::read_to_string(&log).unwrap(), text, "it had no manifest");
    assert_ne!(Sha256::NONE, shipped.content.manifest);
}
