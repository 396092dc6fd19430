//! The files that are open on a channel, by handle, and how paths are named.

use std::collections::HashMap;

use super::open_file::OpenFile;
use super::{Found, SftpFault};
use crate::inspection::FileProgress;
use crate::record::{ChannelNumber, FileOutcome, Text};
use crate::transfer::digest::Window;

/// Files that are open at a time.
const MAX_FILES: usize = 1024;

/// Numbers the files of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileNumber(u32);

/// Where in a file the next bytes belong.
pub(super) type Place = (FileNumber, u64);

#[derive(Default)]
pub(super) struct Files {
    files: HashMap<FileNumber, OpenFile>,
    handles: HashMap<Box<[u8]>, FileNumber>,
    next: u32,
    window: Window,
    /// The directory that relative paths start in.
    home: Option<Box<[u8]>>,
}

impl Files {
    /// The file of a handle; none for a directory.
    pub(super) fn number(&self, handle: &[u8]) -> Option<FileNumber> {
        self.handles.get(handle).copied()
    }

    pub(super) fn file(&mut self, number: FileNumber) -> Option<&mut OpenFile> {
        self.files.get_mut(&number)
    }

    pub(super) fn open(&mut self, handle: &[u8], file: OpenFile) -> Result<(), SftpFault> {
        if self.files.len() >= MAX_FILES {
            return Err(SftpFault::OpenFiles(MAX_FILES));
        }
        let number = FileNumber(self.next);
        self.next = self.next.wrapping_add(1);
        self.handles.insert(handle.into(), number);
        self.files.insert(number, file);
        Ok(())
    }

    /// Closes a file, if it is open.
    pub(super) fn close(&mut self, number: FileNumber, outcome: FileOutcome) -> Option<Found> {
        self.handles.retain(|_, open| *open != number);
        let file = self.files.remove(&number)?;
        Some(self.over(file, outcome))
    }

    /// Ends all that are open, in the order that they were opened in.
    pub(super) fn close_all(&mut self) -> Vec<Found> {
        let open = self.numbers();
        open.into_iter().filter_map(|number| self.close(number, FileOutcome::Partial)).collect()
    }

    /// A file that is closed, or never was open.
    pub(super) fn over(&mut self, file: OpenFile, outcome: FileOutcome) -> Found {
        let told = file.told();
        Found::Transfer { transfer: file.finish(outcome, &mut self.window), told }
    }

    /// The files that are open and went on since this was called before, in the order that they were opened in.
    pub(super) fn moved(&mut self, channel: ChannelNumber) -> Vec<FileProgress> {
        let mut moved = Vec::new();
        for number in self.numbers() {
            let Some(file) = self.files.get_mut(&number) else { continue };
            let (told, bytes) = (file.told(), file.bytes());
            if told != Some(bytes) {
                moved.push(FileProgress { channel, path: file.path().clone(), name: None, told, bytes });
                file.tell();
            }
        }
        moved
    }

    fn numbers(&self) -> Vec<FileNumber> {
        let mut open: Vec<FileNumber> = self.files.keys().copied().collect();
        open.sort_unstable();
        open
    }

    /// Bytes that a request writes at a place, which moves on.
    pub(super) fn write(&mut self, (number, offset): &mut Place, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(number) {
            file.writes(*offset, bytes, &mut self.window);
        }
        *offset = offset.saturating_add(bytes.len() as u64);
    }

    /// Bytes that an answer holds of a place, which moves on.
    pub(super) fn read(&mut self, (number, offset): &mut Place, bytes: &[u8]) {
        if let Some(file) = self.files.get_mut(number) {
            file.reads(*offset, bytes, &mut self.window);
        }
        *offset = offset.saturating_add(bytes.len() as u64);
    }

    pub(super) const fn knows_home(&self) -> bool {
        self.home.is_some()
    }

    /// The target says where relative paths start.
    pub(super) fn starts_in(&mut self, path: &[u8]) {
        self.home = path.starts_with(b"/").then(|| path.into());
    }

    /// A path, joined to where relative ones start if that is known.
    pub(super) fn path(&self, asked: &[u8]) -> Text {
        match &self.home {
            Some(home) if !asked.starts_with(b"/") => {
                let home = home.strip_suffix(b"/").unwrap_or(home);
                Text([home, b"/", asked].concat())
            }
            _ => asked.into(),
        }
    }

    /// The path of an open file; empty for a directory or none.
    pub(super) fn path_of(&self, handle: &[u8]) -> Text {
        let file = self.number(handle).and_then(|number| self.files.get(&number));
        file.map(|file| file.path().clone()).unwrap_or_default()
    }
}
