//! What the recorder signs: a manifest of every file, after each way a recording can end.

use portreeve_core::manifest::{Ended, FileEntry, Manifest, Signed, read_unproven};

use super::*;
use crate::audit::scan_file;

fn manifest(session: &Path) -> Manifest {
    let signed: Signed<Manifest> = read_unproven(&fs::read(session.join(Manifest::FILE)).unwrap()).unwrap();
    assert_eq!(signed.content.directory, session.file_name().unwrap().to_str().unwrap());
    signed.content
}

/// The entries agree with what is on disk, and leave nothing out.
fn assert_true(session: &Path, manifest: &Manifest) {
    for entry in &manifest.files {
        let facts = scan_file(&mut File::open(session.join(&entry.path)).unwrap()).unwrap();
        assert_eq!(*entry, FileEntry::new(entry.path.clone(), &facts));
    }
    let mut paths = names(session);
    paths.retain(|name| name != Manifest::FILE);
    let sets: Vec<String> = paths.extract_if(.., |name| session.join(&*name).is_dir()).collect();
    for set in sets {
        paths.extend(names(&session.join(&set)).into_iter().map(|name| format!("{set}/{name}")));
    }
    paths.sort();
    assert_eq!(manifest.files.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>(), paths);
}

#[tokio::test]
async fn a_finished_session_has_a_manifest_of_all_its_files() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"data").await.unwrap();
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(scratch.path());
    let manifest = manifest(&session);
    assert_eq!(manifest.ended, Ended::Finished);
    assert_true(&session, &manifest);
    let channel = &manifest.files[0];
    assert_eq!((channel.path.as_str(), channel.segment, channel.last), ("channel-0.log", Some(0), true));
    let text = fs::read_to_string(session.join(Manifest::FILE)).unwrap();
    for secret in ["alice", "root", "192.0.2.1", "198.51.100.7", "db-1"] {
        assert!(!text.contains(secret), "{secret} stands in a manifest");
    }
}

#[tokio::test]
async fn an_abandoned_session_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    drop(recorder);
    eventually("renamed", || only_entry(scratch.path()).extension().is_none()).await;
    let session = only_entry(scratch.path());
    let manifest = manifest(&session);
    assert_eq!(manifest.ended, Ended::Abandoned);
    assert_true(&session, &manifest);
}

#[test]
fn what_a_crash_left_is_signed_as_it_was_found() {
    let scratch = tempfile::tempdir().unwrap();
    let part = scratch.path().join("1700000000000-a.part");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let header = runtime.block_on(async {
        let other = tempfile::tempdir().unwrap();
        recorder(other.path(), true).await.finish(ended()).await.unwrap();
        fs::read(only_entry(other.path()).join(spool::EVENTS_FILE)).unwrap()
    });
    fs::create_dir(&part).unwrap();
    let set = part.join("00112233445566ff");
    fs::create_dir(&set).unwrap();
    for directory in [&part, &set] {
        fs::write(directory.join(spool::EVENTS_FILE), [&header, b"\0\0\x01\0half".as_slice()].concat())
            .unwrap();
    }
    // Of a chain that is lost.
    fs::write(part.join(Manifest::FILE), "{}").unwrap();
    fs::write(part.join("manifest.json.9-9.tmp"), "{").unwrap();
    assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 1);
    let session = only_entry(scratch.path());
    let manifest = manifest(&session);
    assert_eq!((manifest.ended, manifest.started_ms), (Ended::Crash, 1_700_000_000_000));
    assert_eq!(manifest.files.len(), 2);
    assert_eq!(manifest.files[0].size, header.len() as u64);
    assert_true(&session, &manifest);
}

#[test]
fn many_leftovers_are_signed_and_bad_ones_do_not_stop_them() {
    let scratch = tempfile::tempdir().unwrap();
    for number in 0..150 {
        let part = scratch.path().join(format!("{number}-s.part"));
        fs::create_dir(&part).unwrap();
        fs::write(part.join(spool::EVENTS_FILE), b"\0\0\0\x02{}").unwrap();
    }
    fs::write(scratch.path().join("70-s.part/unknown"), "").unwrap();
    assert_eq!(Spool::open(scratch.path()).unwrap().closed_leftovers(), 149);
    for name in names(scratch.path()) {
        let whole = scratch.path().join(&name).join(Manifest::FILE).exists();
        assert_eq!(whole, name != "70-s.part", "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_changed_before_the_session_ends_shows() {
    let scratch = tempfile::tempdir().unwrap();
    let recorder = recorder(scratch.path(), true).await;
    recorder.event(&channel_open(CHANNEL, ChannelKind::Session)).await.unwrap();
    recorder.data(CHANNEL, Source::Target, 0, b"data").await.unwrap();
    recorder.event(&channel_closed(CHANNEL)).await.unwrap();
    let file = only_entry(scratch.path()).join("channel-0.log");
    eventually("closed", || open(&file).header.blocks.is_some()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    recorder.finish(ended()).await.unwrap();
    let session = only_entry(scratch.path());
    let entry = manifest(&session).files.remove(0);
    let facts = scan_file(&mut File::open(session.join("channel-0.log")).unwrap()).unwrap();
    assert_eq!(entry.compare(&facts), [portreeve_core::manifest::FileFault::Blocks]);
}
