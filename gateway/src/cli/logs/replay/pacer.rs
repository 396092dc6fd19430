//! When what is shown, and what keys do. Pure: it is told how long was waited.
//!
//! Times of the recording are microseconds since the session started; the position is that of what is shown.

use std::time::Duration;

/// How far the arrow keys go, in microseconds.
const HOP: u64 = 5_000_000;

/// A command that began less than this before the position is the current one: going back goes to the one before.
const CURRENT: u64 = 1_500_000;

/// Speeds that keys can choose.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.125..=64.0;

/// Longest time that is typed, in characters.
const LONGEST: usize = 12;

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Key {
    Pause,
    Step,
    Faster,
    Slower,
    NextCommand,
    PreviousCommand,
    Forward,
    Back,
    /// A part of a time.
    Digit(char),
    /// To the time that was typed.
    Go,
    Quit,
}

/// What is to be done before the next piece is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Show,
    Wait(Duration),
    WaitForKey,
}

/// What a key changes for who plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    GoOn,
    /// To start again from the beginning, up to a time that has passed.
    Restart,
    Quit,
}

/// Paces a recording.
#[derive(Debug)]
pub(super) struct Pacer {
    /// The start of the channel.
    opened: u64,
    position: u64,
    speed: f64,
    idle_limit: Duration,
    /// Waited since the last piece was shown.
    idle: Duration,
    paused: bool,
    /// One piece is to be shown though it is paused.
    step: bool,
    /// Everything before is shown at once.
    goal: u64,
    commands: Vec<u64>,
    typed: String,
}

impl Pacer {
    /// Paces a channel that was opened at `opened`; `commands` are sorted.
    pub(super) const fn new(opened: u64, speed: f64, idle_limit: Duration, commands: Vec<u64>) -> Self {
        Self {
            opened,
            position: opened,
            speed,
            idle_limit,
            idle: Duration::ZERO,
            paused: false,
            step: false,
            goal: opened,
            commands,
            typed: String::new(),
        }
    }

    /// Begins so long after the start of the channel.
    pub(super) fn begin_at(&mut self, after: Duration) {
        self.jump(self.opened.saturating_add(micros(after)));
    }

    /// What comes before a piece of the time `elapsed`.
    pub(super) fn next(&self, elapsed: u64) -> Next {
        if elapsed < self.goal || self.step {
            return Next::Show;
        }
        if self.paused {
            return Next::WaitForKey;
        }
        let gap = Duration::from_micros(elapsed.saturating_sub(self.position.max(self.goal)));
        let left = Duration::try_from_secs_f64(gap.as_secs_f64() / self.speed).unwrap_or(Duration::MAX);
        match left.min(self.idle_limit.saturating_sub(self.idle)) {
            Duration::ZERO => Next::Show,
            left => Next::Wait(left),
        }
    }

    /// So long was waited.
    pub(super) fn waited(&mut self, time: Duration) {
        self.idle = self.idle.saturating_add(time);
        let passed = Duration::try_from_secs_f64(time.as_secs_f64() * self.speed).unwrap_or(Duration::MAX);
        self.position = self.position.max(self.goal).saturating_add(micros(passed));
    }

    /// A piece of this time is shown.
    pub(super) fn shown(&mut self, elapsed: u64) {
        // What was waited for in vain, by a limit on idle time, counts as passed.
        self.position = if elapsed < self.goal { elapsed } else { elapsed.max(self.goal) };
        self.idle = Duration::ZERO;
        self.step = false;
    }

    /// The recording is played from its start again.
    pub(super) const fn restarted(&mut self) {
        self.position = self.opened;
        self.idle = Duration::ZERO;
    }

    pub(super) fn key(&mut self, key: Key) -> Reaction {
        match key {
            Key::Quit => return Reaction::Quit,
            Key::Pause => self.paused = !self.paused,
            Key::Step => (self.paused, self.step) = (true, true),
            Key::Faster => self.speed = (self.speed * 2.0).min(*SPEEDS.end()),
            Key::Slower => self.speed = (self.speed / 2.0).max(*SPEEDS.start()),
            Key::Forward => return self.jump(self.position.saturating_add(HOP)),
            Key::Back => return self.jump(self.position.saturating_sub(HOP)),
            Key::NextCommand => {
                let next = self.commands.iter().find(|at| **at > self.position.max(self.goal));
                return next.copied().map_or(Reaction::GoOn, |at| self.jump(at));
            }
            Key::PreviousCommand => {
                let before = self.position.max(self.goal).saturating_sub(CURRENT);
                let previous = self.commands.iter().rev().find(|at| **at < before);
                return self.jump(previous.copied().unwrap_or(self.opened));
            }
            Key::Digit(digit) if self.typed.len() < LONGEST => self.typed.push(digit),
            Key::Digit(_) => {}
            Key::Go => {
                let typed = std::mem::take(&mut self.typed);
                return time(&typed)
                    .map_or(Reaction::GoOn, |after| self.jump(self.opened.saturating_add(micros(after))));
            }
        }
        Reaction::GoOn
    }

    fn jump(&mut self, to: u64) -> Reaction {
        let to = to.max(self.opened);
        let back = to < self.position;
        self.goal = to;
        self.idle = Duration::ZERO;
        if back { Reaction::Restart } else { Reaction::GoOn }
    }
}

/// A length of time as `90`, `1:30` or `1:02:03`.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut seconds: u64 = 0;
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return None;
    }
    for part in parts {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    Some(Duration::from_secs(seconds))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn pacer(idle_limit: u64) -> Pacer {
        Pacer::new(10 * SECOND, 1.0, Duration::from_secs(idle_limit), vec![20 * SECOND, 30 * SECOND])
    }

    fn wait(seconds: u64) -> Next {
        Next::Wait(Duration::from_secs(seconds))
    }

    #[test]
    fn time_passes_at_its_speed_and_idle_time_is_cut() {
        let mut pacer = pacer(60);
        assert_eq!(pacer.next(14 * SECOND), wait(4));
        pacer.waited(Duration::from_secs(2));
        pacer.key(Key::Faster);
        assert_eq!(pacer.next(14 * SECOND), wait(1));
        pacer.waited(Duration::from_secs(1));
        assert_eq!(pacer.next(14 * SECOND), Next::Show);
        pacer.shown(14 * SECOND);
        assert_eq!(pacer.next(14 * SECOND), Next::Show);
        assert_eq!(pacer.next(1000 * SECOND), wait(60), "no longer");
        pacer.waited(Duration::from_secs(59));
        assert_eq!(pacer.next(1000 * SECOND), wait(1));
        pacer.waited(Duration::from_secs(1));
        assert_eq!(pacer.next(1000 * SECOND), Next::Show);
        pacer.shown(1000 * SECOND);
        assert_eq!(pacer.next(1002 * SECOND), wait(1), "the limit is for each pause");
        for _ in 0..20 {
            pacer.key(Key::Slower);
        }
        assert_eq!(pacer.next(1001 * SECOND), wait(8));
    }

    #[test]
    fn a_pause_ends_with_a_key_and_steps_show_one_piece() {
        let mut pacer = pacer(60);
        pacer.key(Key::Pause);
        assert_eq!(pacer.next(11 * SECOND), Next::WaitForKey);
        pacer.key(Key::Step);
        assert_eq!(pacer.next(11 * SECOND), Next::Show);
        pacer.shown(11 * SECOND);
        assert_eq!(pacer.next(12 * SECOND), Next::WaitForKey);
        assert_eq!(pacer.key(Key::Forward), Reaction::GoOn);
        assert_eq!((pacer.next(15 * SECOND), pacer.next(16 * SECOND)), (Next::Show, Next::WaitForKey));
        pacer.key(Key::Pause);
        assert_eq!(pacer.next(17 * SECOND), wait(1));
        assert_eq!(pacer.key(Key::Quit), Reaction::Quit);
    }

    #[test]
    fn jumps_go_to_commands_and_times_in_both_directions() {
        let mut pacer = pacer(60);
        assert_eq!(pacer.key(Key::NextCommand), Reaction::GoOn);
        assert_eq!((pacer.next(19 * SECOND), pacer.next(22 * SECOND)), (Next::Show, wait(2)));
        pacer.shown(19 * SECOND);
        assert_eq!(pacer.key(Key::NextCommand), Reaction::GoOn);
        assert_eq!((pacer.next(29 * SECOND), pacer.next(30 * SECOND)), (Next::Show, Next::Show));
        pacer.shown(31 * SECOND);
        assert_eq!(pacer.key(Key::NextCommand), Reaction::GoOn, "there is none: nothing changes");
        assert_eq!(pacer.next(32 * SECOND), wait(1));
        assert_eq!(pacer.key(Key::PreviousCommand), Reaction::Restart);
        pacer.restarted();
        assert_eq!(
            (pacer.next(19 * SECOND), pacer.next(21 * SECOND)),
            (Next::Show, wait(1)),
            "the one before"
        );
        pacer.shown(21 * SECOND);
        assert_eq!(pacer.key(Key::PreviousCommand), Reaction::Restart, "none before: the start");
        pacer.restarted();
        assert_eq!(pacer.next(11 * SECOND), wait(1));
        for digit in "1:05".chars() {
            pacer.key(Key::Digit(digit));
        }
        assert_eq!(pacer.key(Key::Go), Reaction::GoOn);
        assert_eq!((pacer.next(74 * SECOND), pacer.next(76 * SECOND)), (Next::Show, wait(1)));
        assert_eq!(pacer.key(Key::Go), Reaction::GoOn, "nothing was typed");
    }

    #[test]
    fn times_are_hours_minutes_and_seconds() {
        for (text, seconds) in [("90", Some(90)), ("1:30", Some(90)), ("1:02:03", Some(3723)), ("", None)] {
            assert_eq!(time(text), seconds.map(Duration::from_secs), "{text}");
        }
        for text in [":", "1:", "1:2:3:4", "x", "99999999999999999999", "99999999999999999:0:0"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
