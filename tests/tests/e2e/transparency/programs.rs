//! Programs that people put on top of ssh: git, Ansible, sshfs, X11.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use portreeve_tests::deadline::until;
use portreeve_tests::{Testbed, run};

use super::Case;
use crate::observation::Observation;
use crate::ssh::{LIMIT, TARGET, noise, scratch, ssh};

pub(super) const CASES: &[Case] = &[
    Case::new("git_pushes_and_clones", git).expecting(&[("status", "exit 0"), ("equal", "true")]),
    Case::new("ansible_pings", ansible).expecting(&[("status", "exit 0"), ("pong", "true")]),
    Case::new("sshfs_reads_and_writes", sshfs).expecting(&[
        ("status", "exit 0"),
        ("stdout", "3000000\nrenamed\n"),
        ("equal", "true"),
    ]),
    Case::new("x11_program_reaches_the_users_display", x11).expecting(&[
        ("status", "exit 0"),
        ("stdout", "localhost\nanswered"),
        ("cookie", "the display's own"),
    ]),
    Case::new("no_display_when_none_is_forwarded", no_x11).expecting(&[("stdout", "none\n")]),
    Case::new("environment_that_is_no_text", env_no_text).expecting(&[("stdout", " ff fe 67 72 fc 6e\n")]),
    Case::new("paths_that_are_no_text", paths_no_text).expecting(&[
        ("status", "exit 0"),
        ("stdout", "a\\xff\\xfeb\n"),
        ("equal", "true"),
    ]),
];

/// A script in `dir`, where HOME is too, so that nobody's settings are read.
fn script(bed: &Testbed, dir: &Path, text: &str) -> Command {
    let mut command = bed.client("bash");
    command.args(["-e", "-c", text]).current_dir(dir);
    command.env("HOME", dir).env("TARGET", TARGET).env("CONFIG", bed.ssh_config());
    command
}

fn git(bed: &Testbed) -> Result<Observation> {
    let dir = scratch(bed, "git")?;
    ssh(bed, &[TARGET, "rm -rf git.git && git init -q --bare -b main git.git"])?.success()?;
    fs::create_dir(dir.join("one"))?;
    fs::write(dir.join("one/large"), noise(3_000_000))?;
    let text = "export GIT_SSH_COMMAND=\"ssh -F '$CONFIG'\" GIT_CONFIG_NOSYSTEM=1
        git -C one init -q -b main
        git -C one add large
        git -C one -c user.name=Alice -c user.email=alice@example.com commit -q -m first
        git -C one push -q \"$TARGET:git.git\" main
        git clone -q \"ssh://$TARGET/home/alice/git.git\" two
        git -C two log --format=%s";
    let finished = run(&mut script(bed, &dir, text), b"", LIMIT)?;
    let equal = fs::read(dir.join("one/large"))? == fs::read(dir.join("two/large")).unwrap_or_default();
    Ok(Observation::of(&finished).with("equal", equal.to_string()))
}

/// With connection sharing, as by default; the shared connection ends a second after its last use.
fn ansible(bed: &Testbed) -> Result<Observation> {
    let dir = scratch(bed, "ansible")?;
    let text = "export ANSIBLE_SSH_ARGS=\"-F '$CONFIG' -C -o ControlMaster=auto -o ControlPersist=1s\"
        export ANSIBLE_SSH_CONTROL_PATH=ctl
        export ANSIBLE_NOCOLOR=1 ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3
        ansible all -i \"${TARGET#*@},\" -u \"${TARGET%@*}\" -m ping";
    let finished = run(&mut script(bed, &dir, text), b"", LIMIT)?;
    let pong = finished.out().contains("\"ping\": \"pong\"");
    Ok(Observation::of(&finished).with("pong", pong.to_string()))
}

/// In a mount namespace of its own, with which the mount goes.
fn sshfs(bed: &Testbed) -> Result<Observation> {
    let dir = scratch(bed, "sshfs")?;
    fs::write(dir.join("local"), noise(3_000_000))?;
    ssh(bed, &[TARGET, "rm -rf sshfs && mkdir sshfs"])?.success()?;
    let text = "mkdir mounted
        sshfs -o ssh_command=\"ssh -F $CONFIG\" \"$TARGET:sshfs\" mounted
        trap 'fusermount3 -u mounted' EXIT
        cp local mounted/copy
        stat -c %s mounted/copy
        cmp local mounted/copy
        mkdir mounted/sub
        mv mounted/copy mounted/sub/renamed
        ls mounted/sub";
    let mut command = bed.client("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-e", "-c", text]).current_dir(&dir);
    command.env("TARGET", TARGET).env("CONFIG", bed.ssh_config());
    let finished = run(&mut command, b"", LIMIT)?;
    let there = fs::read(bed.server().home("alice").join("sshfs/sub/renamed")).unwrap_or_default();
    let equal = fs::read(dir.join("local"))? == there;
    Ok(Observation::of(&finished).with("equal", equal.to_string()))
}

const COOKIE: &str = "000102030405060708090a0b0c0d0e0f";
/// Length of a connection setup with one authorization of 18 and 16 bytes (X11 protocol, section 8).
const X11_SETUP: usize = 12 + 20 + 16;
const X11_PROGRAM: &str = "echo ${DISPLAY%%:*}
    display=${DISPLAY##*:}
    cookie=$(xauth list \"$DISPLAY\" | awk '{ print $3; exit }')
    exec 3<> /dev/tcp/127.0.0.1/$((6000 + ${display%%.*}))
    printf 'l\\0\\013\\0\\0\\0\\022\\0\\020\\0\\0\\0MIT-MAGIC-COOKIE-1\\0\\0' >&3
    printf \"$(printf %s \"$cookie\" | sed 's/../\\\\x&/g')\" >&3
    cat <&3";

/// Enough of an X server: it reads one connection's setup and says something.
fn display(listener: TcpListener) -> thread::JoinHandle<std::io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut setup = vec![0; X11_SETUP];
        stream.read_exact(&mut setup)?;
        stream.write_all(b"answered")?;
        Ok(setup)
    })
}

/// The program on the server knows a made-up cookie only; ssh puts the real one in its place.
fn x11(bed: &Testbed) -> Result<Observation> {
    let dir = scratch(bed, "x11")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 6077));
    let listener = bed.client_netns().enter(|| Ok(TcpListener::bind(address)?))?;
    let shown = display(listener);
    let add = format!("xauth -q -f authority add 127.0.0.1:77 MIT-MAGIC-COOKIE-1 {COOKIE}");
    run(&mut script(bed, &dir, &format!("touch authority; {add}")), b"", LIMIT)?.success()?;
    let mut command = bed.client_ssh("ssh");
    command.args(["-Y", TARGET, X11_PROGRAM]);
    command.env("DISPLAY", "127.0.0.1:77").env("XAUTHORITY", dir.join("authority"));
    let finished = run(&mut command, b"", LIMIT)?;
    until("the display's end", LIMIT, || Ok(shown.is_finished().then_some(())))
        .with_context(|| format!("{finished:?}"))?;
    let Ok(setup) = shown.join() else { bail!("the display panicked") };
    let setup = setup?;
    let cookie: String =
        setup.iter().skip(X11_SETUP - 16).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let cookie = if cookie == COOKIE { "the display's own".to_owned() } else { cookie };
    Ok(Observation::of(&finished).with("cookie", cookie))
}

fn no_x11(bed: &Testbed) -> Result<Observation> {
    Ok(Observation::of(&ssh(bed, &["-x", TARGET, "echo ${DISPLAY:-none}"])?))
}

fn env_no_text(bed: &Testbed) -> Result<Observation> {
    use std::os::unix::ffi::OsStrExt;
    let mut command = bed.client_ssh("ssh");
    command.arg("-o").arg(std::ffi::OsStr::from_bytes(b"SetEnv=TB_BYTES=\xff\xfegr\xfcn"));
    command.args([TARGET, "printf %s \"$TB_BYTES\" | od -An -tx1"]);
    Ok(Observation::of(&run(&mut command, b"", LIMIT)?))
}

/// By rsync (names in the stream) and by exec (a name in the command).
fn paths_no_text(bed: &Testbed) -> Result<Observation> {
    let dir = scratch(bed, "paths")?;
    ssh(bed, &[TARGET, "rm -rf paths && mkdir paths"])?.success()?;
    let text = "mkdir from
        seq 1000 > from/$'a\\xff\\xfeb'
        rsync -a -e \"ssh -F '$CONFIG'\" from/ \"$TARGET:paths/\"
        scp -q -O -F \"$CONFIG\" \"$TARGET:paths/\"$'a\\xff\\xfeb' back
        ssh -F \"$CONFIG\" \"$TARGET\" \"test -f paths/\"$'a\\xff\\xfeb'
        ls from";
    let finished = run(&mut script(bed, &dir, text), b"", LIMIT)?;
    let equal = fs::read(dir.join("back")).is_ok_and(|back| back.ends_with(b"\n1000\n"));
    let out = finished.stdout.escape_ascii().to_string().replace("\\n", "\n");
    Ok(Observation::new()
        .with("status", finished.ending())
        .with("stdout", out)
        .with("stderr", finished.err())
        .with("equal", equal.to_string()))
}
