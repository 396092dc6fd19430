//! Cases that run one after the other in a thread, while those of another lane do in another.
//!
//! An emulated machine keeps one core busy, or waits: there are two lanes, for two cores. A trial of libtest-mimic only waits for
//! what its lane tells of its case; what is not asked for is not run. Which groups make a lane is for `main`.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::{Case, MachineCase, full_name};

/// A machine that cases share.
pub(crate) trait Machine: Sized {
    /// Switches it on.
    fn start() -> Result<Self>;
    /// What it has said of late, for who reads why a case failed.
    fn said(&mut self) -> String;
    /// Takes it down.
    fn stop(self) -> Result<()>;
}

/// Where the outcome of each case goes that is to be run.
type Asked = HashMap<&'static str, SyncSender<Result<()>>>;

/// Cases that belong together.
pub(crate) trait Group: Send {
    /// Names, in the order in which they run.
    fn names(&self) -> Vec<&'static str>;
    /// Runs those that are asked for.
    fn run(&self, asked: &Asked) -> Result<()>;
}

/// Cases that share a machine, which the first that is asked for switches on.
pub(crate) struct OfMachine<M>(pub(crate) Vec<MachineCase<M>>);

/// Cases with machines of their own.
pub(crate) struct Alone(pub(crate) Vec<Case>);

/// Groups, in their order.
pub(crate) struct Lane(Vec<Box<dyn Group>>);

impl<M: Machine> Group for OfMachine<M> {
    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    fn run(&self, asked: &Asked) -> Result<()> {
        let mut machine = None;
        for (name, case) in &self.0 {
            let Some(outcome) = asked.get(name) else { continue };
            let ran = match machine.get_or_insert_with(M::start) {
                Ok(machine) => case(machine).with_context(|| machine.said()),
                Err(error) => {
                    let told =
                        std::mem::replace(error, anyhow!("no machine: see the first case that failed"));
                    Err(told)
                }
            };
            outcome.send(ran)?;
        }
        machine.and_then(Result::ok).map_or(Ok(()), M::stop)
    }
}

impl Group for Alone {
    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    fn run(&self, asked: &Asked) -> Result<()> {
        for (name, case) in &self.0 {
            if let Some(outcome) = asked.get(name) {
                outcome.send(case())?;
            }
        }
        Ok(())
    }
}

impl Lane {
    pub(crate) fn new(groups: Vec<Box<dyn Group>>) -> Self {
        Self(groups)
    }

    /// A trial for each case, and the thread in which those run that are asked for.
    pub(crate) fn start(self, arguments: &Arguments) -> (Vec<Trial>, JoinHandle<Result<()>>) {
        let mut asked = Asked::new();
        let mut trials = Vec::new();
        for name in self.0.iter().flat_map(|group| group.names()) {
            let (sender, receiver) = sync_channel(1);
            let trial = Trial::test(full_name(name), move || told(&receiver));
            if !arguments.list && !arguments.is_filtered_out(&trial) {
                asked.insert(name, sender);
            }
            trials.push(trial);
        }
        let thread = thread::spawn(move || self.0.iter().try_for_each(|group| group.run(&asked)));
        (trials, thread)
    }
}

/// Waits for the outcome of a case.
fn told(outcome: &Receiver<Result<()>>) -> Result<(), Failed> {
    let ended = || anyhow!("its lane ended before it");
    outcome.recv().unwrap_or_else(|_| Err(ended())).map_err(failed)
}

/// With all causes.
pub(crate) fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}
