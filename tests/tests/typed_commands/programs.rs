//! The sittings: which program, what is typed, and where the truth about it comes from.
//!
//! The truth is never the typist's: shells tell what they ran by hooks of their own, interpreters by their
//! history, the database by its server's log.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::sitting::{Sitting, Stream};
use super::typist::Way::{self, *};

/// What was recorded, and what is true of it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) program: String,
    pub(crate) stream: Stream,
    /// Lines that the program got, in order.
    pub(crate) truth: Vec<String>,
    /// What was typed and not shown.
    pub(crate) secrets: Vec<String>,
}

/// Lines for shells, each harmless and quick.
const LINES: &[&str] = &[
    "echo hello world",
    "ls -l /etc/hostname",
    "head -2 /etc/passwd | tail -1",
    "date +%s > /dev/null",
    "printf '%s\\n' one two three",
    "cat /etc/hostname | tr a-z A-Z",
    "echo grüße aus köln und 東京 ✓ done",
    "uname -a | cut -c 1-20",
    "seq 1 5 | wc -l",
    "true && echo yes || echo no",
    "echo a line that is long enough to be wrapped at the edge of every window of usual width because it has \
     more than one hundred and sixty characters in it, all of which matter",
    "wc -l /etc/passwd /etc/group",
    "cd /var/log",
    "test -d /tmp && echo there",
    "cd /tmp",
    "grep -c root /etc/passwd",
    "stat -c %n /etc/hostname /etc/passwd",
    "basename /usr/share/doc",
];

const EDITED: &[Way] = &[
    Plain,
    Mistakes,
    StartLast,
    Plain,
    Middle,
    KillLine,
    KillWord,
    Yank,
    Paste,
    MarkedPaste,
    Ahead,
    Plain,
    TwoAtOnce,
    GivenUp,
    Again,
    Search,
    Complete,
    Clear,
];

/// bash: `history 1` before each prompt and at the exit.
pub(crate) fn bash(directory: &Path, prompt: &str, size: (u16, u16), seed: u64) -> Recorded {
    let mut sitting = start_bash(directory, prompt, size, seed);
    edited(&mut sitting, seed, 34);
    sitting.line(Plain, "for i in 1 2");
    sitting.line(Plain, "do echo $i");
    sitting.line(Plain, "done");
    sitting.line(Plain, "echo 'first part");
    sitting.line(Plain, "second part'");
    sitting.resize(100, 30);
    sitting.settle(Duration::from_millis(200));
    sitting.line(Plain, "echo after the window changed");
    sitting.line(Plain, "read -s -p 'Password: ' P; echo");
    sitting.secret("Password: ", "hunter2-bash");
    sitting.line(Plain, "echo after a secret");
    sitting.send(b"\x04");
    end_bash("bash", directory, sitting, &["hunter2-bash"])
}

fn start_bash(directory: &Path, prompt: &str, size: (u16, u16), seed: u64) -> Sitting {
    let truth = directory.join("truth");
    let rc = format!(
        "HISTFILE= HISTCONTROL= PS1=$'{prompt}'; shopt -s lithist cmdhist\nrecord() {{ printf '\\1'; history 1; }} \
         >> {}\nPROMPT_COMMAND=record\ntrap record EXIT\nhistory -c; bind 'set bell-style none'\n",
        truth.display()
    );
    fs::write(directory.join("rc"), rc).expect("the settings are written");
    let mut command = on_terminal(directory, "bash");
    command.arg("--rcfile").arg(directory.join("rc")).arg("-i");
    let mut sitting = Sitting::start(command, size, Duration::from_millis(seed % 3 * 15), seed);
    sitting.settle(Duration::from_millis(400));
    sitting
}

fn end_bash(program: &str, directory: &Path, sitting: Sitting, secrets: &[&str]) -> Recorded {
    let stream = sitting.finish();
    let told = fs::read_to_string(directory.join("truth")).expect("bash told what it ran");
    let mut truth: Vec<(u64, String)> = Vec::new();
    for entry in told.split('\u{1}') {
        let entry = entry.trim_start();
        let Some((number, line)) = entry.split_once("  ") else { continue };
        let number = number.trim_end_matches('*').parse().expect("history has numbers");
        if truth.last().is_none_or(|(last, _)| *last != number) {
            truth.push((number, line.trim_end().to_owned()));
        }
    }
    recorded(program, stream, truth.into_iter().map(|(_, line)| line).collect(), secrets)
}

/// zsh: the hook `preexec`.
pub(crate) fn zsh(directory: &Path, prompt: &str, right: &str, seed: u64) -> Recorded {
    let truth = directory.join("truth");
    let rc = format!(
        "PS1='{prompt}' RPS1='{right}' HISTSIZE=1000\nsetopt prompt_subst interactive_comments\nbindkey -e\npreexec() {{ \
         printf '\\1%s' \"$1\" >> {} }}\n",
        truth.display()
    );
    fs::write(directory.join(".zshrc"), rc).expect("the settings are written");
    let mut command = on_terminal(directory, "zsh");
    command.env("ZDOTDIR", directory).args(["-d", "-i"]);
    let mut sitting = Sitting::start(command, (80, 24), Duration::from_millis(seed % 3 * 15), seed);
    sitting.settle(Duration::from_millis(400));
    edited(&mut sitting, seed, 34);
    sitting.line(Plain, "for i in 1 2; do");
    sitting.line(Plain, "echo $i");
    sitting.line(Plain, "done");
    sitting.resize(120, 30);
    sitting.settle(Duration::from_millis(200));
    sitting.line(Plain, "echo after the window changed");
    sitting.line(Plain, "read -s 'P?Password: '; echo");
    sitting.secret("Password: ", "hunter2-zsh");
    sitting.line(Plain, "echo after a secret");
    sitting.send(b"\x04");
    let stream = sitting.finish();
    recorded("zsh", stream, read_truth(&truth), &["hunter2-zsh"])
}

/// fish: the event `fish_preexec`.
pub(crate) fn fish(directory: &Path, seed: u64) -> Recorded {
    let truth = directory.join("truth");
    let rc = format!(
        "function __record --on-event fish_preexec; printf '\\1%s' \"$argv[1]\" >> {}; end; set -g fish_greeting",
        truth.display()
    );
    // Else fish, at its first start, would read all manual pages for their options, behind the sitting's back.
    fs::create_dir_all(directory.join(".local/share/fish/generated_completions")).expect("a directory");
    let mut command = on_terminal(directory, "fish");
    command.args(["-i", "-C", &rc]);
    let mut sitting = Sitting::start(command, (100, 30), Duration::from_millis(seed % 3 * 15), seed);
    sitting.settle(Duration::from_millis(900));
    // fish searches by ^R in a menu of its own, and this one takes no notice of ^C.
    let ways: Vec<Way> = EDITED.iter().copied().filter(|way| ![Search, GivenUp].contains(way)).collect();
    lines(&mut sitting, &ways, seed, 34);
    sitting.line(Plain, "for i in 1 2; echo $i");
    sitting.line(Plain, "end");
    sitting.line(Plain, "read -s -P 'Password: ' P");
    sitting.secret("Password: ", "hunter2-fish");
    sitting.line(Plain, "echo after a secret");
    sitting.line(Plain, "exit");
    let stream = sitting.finish();
    recorded("fish", stream, read_truth(&truth), &["hunter2-fish"])
}

/// dash has no hook and no editor: each line calls a function that writes down what it was called with.
pub(crate) fn dash(directory: &Path, seed: u64) -> Recorded {
    let truth = directory.join("truth");
    let rc = format!(
        "t() {{ printf '\\1t %s' \"$*\" >> {}; }}\nsleep() {{ command sleep \"$1\"; }}\n",
        truth.display()
    );
    fs::write(directory.join("rc"), rc).expect("the settings are written");
    let mut command = on_terminal(directory, "dash");
    command.env("ENV", directory.join("rc")).env("PS1", "$ ").arg("-i");
    let mut sitting = Sitting::start(command, (80, 24), Duration::from_millis(seed % 3 * 15), seed);
    sitting.settle(Duration::from_millis(300));
    for (index, way) in
        [Plain, Mistakes, KillLine, KillWord, Paste, Plain, GivenUp].iter().cycle().take(35).enumerate()
    {
        sitting.line(*way, &format!("t {index} word {}", "x".repeat(index * 3)));
    }
    for index in 0..4 {
        sitting.type_keys("t start; sleep 0.4\r");
        sitting.type_keys(&format!("t ahead {index}"));
        sitting.enter();
        sitting.settle(Duration::from_millis(600));
    }
    sitting.line(Plain, "stty -echo; read P; stty echo; t read");
    sitting.type_keys("hunter2-dash");
    sitting.enter();
    sitting.line(Plain, "t after a secret");
    sitting.send(b"\x04");
    let stream = sitting.finish();
    let told = read_truth(&truth).into_iter().map(|line| match line.as_str() {
        "t start" => "t start; sleep 0.4".to_owned(),
        "t read" => "stty -echo; read P; stty echo; t read".to_owned(),
        _ => line,
    });
    recorded("dash", stream, told.collect(), &["hunter2-dash"])
}

/// Python: its own history of lines.
pub(crate) fn python(directory: &Path, seed: u64) -> Recorded {
    let truth = directory.join("truth");
    let startup = format!(
        "import atexit, readline\natexit.register(lambda: readline.write_history_file({:?}))\n",
        truth.display().to_string()
    );
    fs::write(directory.join("startup.py"), startup).expect("the settings are written");
    let mut command = on_terminal(directory, "/usr/bin/python3");
    command.env("PYTHONSTARTUP", directory.join("startup.py")).env("PYTHON_BASIC_REPL", "1").arg("-q");
    let mut sitting = Sitting::start(command, (80, 24), Duration::from_millis(seed % 3 * 15), seed);
    sitting.expect(">>> ");
    let ways = [Plain, Mistakes, Middle, StartLast, KillLine, KillWord, Paste, GivenUp, Plain];
    for (index, way) in ways.iter().cycle().take(27).enumerate() {
        sitting.line(*way, &format!("value = {index} * {index} + {}", 1000 + index));
    }
    for line in ["def twice(x):", "    return 2 * x", "", "twice(21)", "import getpass"] {
        sitting.line(Plain, line);
    }
    sitting.line(Plain, "secret = getpass.getpass()");
    sitting.secret("Password: ", "hunter2-python");
    sitting.line(Plain, "len(secret)");
    sitting.send(b"\x04");
    let stream = sitting.finish();
    let told = fs::read_to_string(&truth).expect("python told what it read");
    let truth = told.lines().map(str::to_owned).collect();
    recorded("python", stream, truth, &["hunter2-python"])
}

/// MariaDB: the general log of a server.
pub(crate) fn mysql(directory: &Path, seed: u64) -> Recorded {
    let server = Server::start(directory);
    let mut command = on_terminal(directory, "mariadb");
    command.args(["--no-defaults", "-A", "-u", "root", "-S"]).arg(directory.join("socket"));
    let mut sitting = Sitting::start(command, (80, 24), Duration::from_millis(seed % 3 * 15), seed);
    sitting.expect("> ");
    let ways = [Plain, Mistakes, StartLast, KillWord, Paste, Middle, Plain];
    for (index, way) in ways.iter().cycle().take(28).enumerate() {
        sitting.line(*way, &format!("select {index}, 'word {index}', version();"));
    }
    for line in ["select 'one',", "'two',", "'three';"] {
        sitting.line(Plain, line);
    }
    sitting.line(Plain, "select 'the last';");
    sitting.send(b"\x04");
    let stream = sitting.finish();
    drop(server);
    let log = fs::read_to_string(directory.join("log")).expect("the server told what it got");
    let mut truth: Vec<String> = Vec::new();
    for line in log.lines() {
        // A statement goes on in lines without a time or a command.
        if let Some((_, query)) = line.split_once("\tQuery\t").or_else(|| line.split_once(" Query\t")) {
            truth.push(query.to_owned());
        } else if let Some(last) = truth.last_mut().filter(|_| line.starts_with('\'')) {
            last.push('\n');
            last.push_str(line);
        }
    }
    truth.retain(|query| query != "select @@version_comment limit 1");
    recorded("mysql", stream, truth, &[])
}

/// Programs that draw the screen, run from bash; what is typed in them is no command.
pub(crate) fn drawn(program: &'static str, directory: &Path, seed: u64) -> Recorded {
    let prompt = "\\\\e[1;32m\\\\u@host\\\\e[0m:\\\\w\\\\$ ";
    let mut sitting = start_bash(directory, prompt, (90, 26), seed);
    let (line, keys): (&str, &[&str]) = match program {
        "vim" => {
            ("vim -u NONE /tmp/nothing", &["i", "ls -l\r", "rm -rf /\r", "\x1b", "x", "dd", "k", ":q!\r"])
        }
        // Not `k`: it sends a signal, of the machine's own processes.
        "htop" => ("htop --readonly", &["\x1b[B", "\x1b[A", "/", "root", "\r", "t", "q"]),
        "tmux" => ("tmux -L test -f /dev/null new", &["echo inside", "\r", "ls", "\r", "exit", "\r"]),
        _ => ("less /etc/passwd", &["j", " ", "/root", "\r", "n", "G", "q"]),
    };
    for round in 0..5 {
        sitting.line(Plain, &format!("echo before {round}"));
        sitting.line(Mistakes, line);
        // The alternate screen.
        sitting.expect("\x1b[?1049h");
        sitting.settle(Duration::from_millis(500));
        sitting.press(keys);
        sitting.settle(Duration::from_millis(400));
        sitting.line(Middle, &format!("echo and after {round}"));
    }
    sitting.send(b"\x04");
    end_bash(program, directory, sitting, &[])
}

struct Server(Child);

impl Server {
    fn start(directory: &Path) -> Self {
        let data = format!("--datadir={}", directory.join("data").display());
        let install = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", &data])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(install.expect("mariadb-install-db runs").success());
        let named = |option: &str, name: &str| format!("--{option}={}", directory.join(name).display());
        let server = Command::new("/usr/sbin/mariadbd")
            .args(["--no-defaults", "--user=root", "--skip-networking", "--general-log", &data])
            .args([named("socket", "socket"), named("general-log-file", "log"), named("pid-file", "pid")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self(server);
        let started = Instant::now();
        while !directory.join("socket").exists() {
            assert!(started.elapsed() < Duration::from_secs(30), "the server does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn edited(sitting: &mut Sitting, seed: u64, count: usize) {
    lines(sitting, EDITED, seed, count);
}

fn lines(sitting: &mut Sitting, ways: &[Way], seed: u64, count: usize) {
    let offset = usize::try_from(seed).expect("a small seed") * 5;
    for index in 0..count {
        let way = ways[(index + offset) % ways.len()];
        let line = if way == Search {
            "seq 1 5"
        } else if way == Complete {
            "ls -ld /usr/share/do"
        } else {
            LINES[(index * 7 + offset) % LINES.len()]
        };
        // There is something to go back to.
        if way == Search {
            sitting.line(Plain, "seq 1 5 | cat");
            sitting.line(Plain, "echo between");
        }
        sitting.line(way, line);
    }
}

fn recorded(program: &str, stream: Stream, truth: Vec<String>, secrets: &[&str]) -> Recorded {
    let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    Recorded { program: program.to_owned(), stream, truth, secrets }
}

fn on_terminal(directory: &Path, program: &str) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", program]).current_dir(directory).env_clear();
    let home = directory.display().to_string();
    command.envs([("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("TERM", "xterm-256color"), ("HOME", &home)]);
    command.envs([("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("SHELL", "/bin/sh")]);
    command
}

fn read_truth(path: &Path) -> Vec<String> {
    let told = fs::read_to_string(path).expect("the program told what it ran");
    told.split('\u{1}').map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}
