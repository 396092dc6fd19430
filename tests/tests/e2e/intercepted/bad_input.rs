//! Files and arguments that are wrong: one clear error, status 1, nothing changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use portreeve_tests::{Finished, Options, Route, Testbed, run, template};

use super::Check;
use crate::beds::{Beds, own};
use crate::ssh::{LIMIT, TARGET, scratch, ssh};

pub(super) const CHECKS: &[Check] = &[
    Check::new("good_files_are_good", good),
    Check::new("a_misspelt_key_is_named_with_its_line", misspelt),
    Check::new("wrong_policies_are_named_with_file_and_key", wrong_policies),
    Check::new("wide_open_keys_are_refused", wide_open),
    Check::new("a_port_in_use_stops_the_second_daemon_only", port_in_use),
    Check::new("an_interface_that_is_not_there_is_named", no_interface),
    Check::new("targets_that_do_not_fit_leave_no_routes_behind", too_many_targets),
    Check::new("keys_are_never_overwritten", no_overwrite),
    Check::new("explain_says_who_decides", explain),
];

pub(super) fn portreeve(bed: &Testbed, args: &[&str]) -> Result<Finished> {
    let mut command = Command::new(bed.gateway()?.files().binary());
    run(command.args(args), b"", LIMIT)
}

/// The shared testbed's configuration and policy, copied for one case to spoil.
struct Copies {
    config: PathBuf,
    policy: PathBuf,
}

impl Copies {
    fn make(bed: &Testbed, case: &str) -> Result<Self> {
        let dir = scratch(bed, case)?;
        let copies = Self { config: dir.join("portreeve.toml"), policy: dir.join("policy.toml") };
        fs::copy(bed.gateway()?.files().config_file(), &copies.config)?;
        fs::copy(bed.gateway()?.files().policy_file(), &copies.policy)?;
        Ok(copies)
    }

    fn check(&self, bed: &Testbed) -> Result<Finished> {
        let (config, policy) = (self.config.display().to_string(), self.policy.display().to_string());
        portreeve(bed, &["check-config", "--config", &config, "--policy", &policy])
    }
}

/// One clear error: status 1, nothing on standard output, and texts that say what is wrong.
pub(super) fn ensure_error(finished: &Finished, texts: &[&str]) -> Result<()> {
    ensure!(finished.ending() == "exit 1", "{}: {}", finished.ending(), finished.err());
    for text in texts {
        ensure!(finished.err().contains(text), "{text:?} is not in {:?}", finished.err());
    }
    Ok(())
}

fn good(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    Copies::make(bed, "good_files")?.check(bed)?.success()?;
    Ok(())
}

fn misspelt(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let copies = Copies::make(bed, "misspelt")?;
    let config = fs::read_to_string(&copies.config)?.replace("interfaces", "interfacs");
    fs::write(&copies.config, &config)?;
    let line = config.lines().position(|line| line.contains("interfacs")).context("no line")? + 1;
    ensure_error(&copies.check(bed)?, &[&format!("portreeve.toml:{line}"), "interfacs", "interfaces"])
}

fn wrong_policies(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let copies = Copies::make(bed, "wrong_policies")?;
    let rule = |traffic: &str| {
        format!(
            "rules = [{{ name = \"r\", action = \"block\", enabled = true, precedence = 1, traffic = {traffic} }}]"
        )
    };
    let hostname = "target_attributes = { hostname = [\"@HOSTNAME@\"] }";
    let second_target = "[[targets]]\nhostname = \"twin\"\nip = { ipv4 = { ip_addr = \"@TARGET4@\" } }\n\n";
    for (from, to, named) in [
        ("rules = []", rule("'net.dst.port =='"), "rules[0].traffic"),
        ("rules = []", rule("'net.dst.prt == 22'"), "net.dst.prt"),
        ("rules = []", rule("'net.dst.port == \"x\"'"), "rules[0].traffic"),
        (hostname, hostname.replace("@HOSTNAME@", "sevrer"), "sevrer"),
        ("email = { email =", "group = { id =".to_owned(), "alice@example.com"),
        ("[[applications]]", format!("{second_target}[[applications]]"), "10.1.2.3"),
        ("usernames", "user_names".to_owned(), "user_names"),
        ("decision = \"allow\"", "decision = \"alow\"".to_owned(), "alow"),
        ("[[targets]]", "[[targets".to_owned(), "policy.toml:"),
    ] {
        let spoiled = template::POLICY.replacen(from, &to, 1);
        ensure!(spoiled != template::POLICY, "{from:?} is not in the policy");
        fs::write(&copies.policy, template::fill(&spoiled, &template::addresses())?)?;
        ensure_error(&copies.check(bed)?, &["policy.toml", named])?;
    }
    Ok(())
}

fn wide_open(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let state = scratch(bed, "wide_open")?;
    let files = bed.gateway()?.files();
    for entry in fs::read_dir(files.state_dir())? {
        let entry = entry?;
        if entry.path().is_file() {
            let copy = state.join(entry.file_name());
            fs::copy(entry.path(), &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
        }
    }
    let copies = Copies::make(bed, "wide_open_files")?;
    let config = fs::read_to_string(&copies.config)?;
    let own = files.state_dir().display().to_string();
    fs::write(&copies.config, config.replace(&format!("\"{own}\""), &format!("\"{}\"", state.display())))?;
    ensure_error(&copies.check(bed)?, &["chmod", "600"])?;
    let key = state.join("recipient");
    fs::copy(files.recipient_key(), &key)?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    let key = key.display().to_string();
    ensure_error(&portreeve(bed, &["logs", "decrypt", "--key", &key, "no-such-file"])?, &["chmod"])
}

/// Runs a daemon that must not come up, in the gateway's namespace.
fn failing_daemon(bed: &Testbed, config: &str) -> Result<Finished> {
    let mut command = bed.topology().gateway.command(bed.gateway()?.files().binary());
    run(command.args(["run", "--config", config]), b"", LIMIT)
}

fn port_in_use(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let config = bed.gateway()?.files().config_file().display().to_string();
    ensure_error(&failing_daemon(bed, &config)?, &["10.1.1.1:9470"])?;
    ssh(bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

fn no_interface(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let copies = Copies::make(bed, "no_interface")?;
    let config = fs::read_to_string(&copies.config)?;
    let config =
        config.replace("lan0", "lan9").replace(":9470", ":9471").replace("bpf/portreeve", "bpf/other");
    fs::write(&copies.config, config)?;
    ensure_error(&failing_daemon(bed, &copies.config.display().to_string())?, &["lan9"])?;
    ssh(bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

/// 256 targets at a port of its own each: more different sets of ports than the kernel's map holds.
fn too_many_targets(_: &Beds) -> Result<()> {
    let mut bed = own(&Options::default())?;
    bed.gateway_mut()?.stop()?;
    let mut policy = String::new();
    for n in 0..256 {
        policy += &format!("[[targets]]\nhostname = \"t{n}\"\nip.ipv4.ip_addr = \"10.9.0.{n}\"\n");
    }
    policy += "[[applications]]\nname = \"all\"\ntype = \"infrastructure\"\n";
    for n in 0..256 {
        policy += &format!(
            "[[applications.target_criteria]]\nport = {}\nprotocol = \"SSH\"\n\
             target_attributes = {{ hostname = [\"t{n}\"] }}\n",
            1000 + n
        );
    }
    bed.gateway()?.files().write_policy(&policy)?;
    let config = bed.gateway()?.files().config_file().display().to_string();
    ensure_error(&failing_daemon(&bed, &config)?, &["more than 127 different sets of ports"])?;
    let mut rules = bed.topology().gateway.command("sh");
    let rules = run(rules.args(["-c", "ip -4 rule; ip -6 rule"]), b"", LIMIT)?.success()?;
    ensure!(rules.contains("local") && !rules.contains("fwmark"), "{rules}");
    bed.gateway()?.files().write_policy(template::POLICY)?;
    bed.gateway_mut()?.launch()?;
    ssh(&bed, &[TARGET, "true"])?.success()?;
    Ok(())
}

fn no_overwrite(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let files = bed.gateway()?.files();
    let before = files.ca_public_key()?;
    let state = files.state_dir().display().to_string();
    ensure_error(&portreeve(bed, &["ca", "init", "--state-dir", &state])?, &[&state])?;
    ensure!(before == files.ca_public_key()?, "the CA key was overwritten");
    let recipient = files.recipient_key().display().to_string();
    ensure_error(&portreeve(bed, &["logs", "generate-key-pair", &recipient])?, &[&recipient])
}

fn explain(beds: &Beds) -> Result<()> {
    let bed = beds.shared(Route::Intercepted)?;
    let config = bed.gateway()?.files().config_file().display().to_string();
    let explain = |from: &str, to: &str, login: &str| {
        portreeve(bed, &["explain", "--config", &config, "--from", from, "--to", to, "--login", login])
    };
    let granted = explain("10.1.1.2", "10.1.2.3:22", "alice")?;
    ensure!(granted.out().contains("servers/staff"), "{}", granted.out());
    granted.success()?;
    for (from, to, login, named) in [
        ("10.1.1.2", "10.1.2.3:22", "deploy", "deploy"),
        ("10.1.1.9", "10.1.2.3:22", "alice", "10.1.1.9"),
        ("fd00:1:1::2", "[fd00:1:2::4]:22", "alice", "fd00:1:2::4"),
    ] {
        let denied = explain(from, to, login)?;
        ensure!(denied.ending() == "exit 3", "{}: {}", denied.ending(), denied.err());
        ensure!(denied.out().contains(named), "{named} is not in {}", denied.out());
    }
    ensure!(explain("nowhere", "10.1.2.3:22", "alice")?.ending() == "exit 2", "a bad address is accepted");
    Ok(())
}
