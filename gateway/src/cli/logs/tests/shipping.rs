//! What is said about destinations.

use super::*;

const SESSION: &str = "1000-ffffffff-ffff-4fff-bfff-000000000001";

#[test]
fn each_destination_is_told_with_what_waits_and_what_is_set_aside() {
    let scratch = tempfile::tempdir().unwrap();
    let (spool, config) = (scratch.path().join("spool"), scratch.path().join("portreeve.toml"));
    let state = spool.join(".shipping/archive");
    fs::create_dir_all(&state).unwrap();
    fs::create_dir(spool.join(SESSION)).unwrap();
    fs::write(spool.join(SESSION).join("events.log"), "12345").unwrap();
    let aside =
        r#"{"time":"2026-01-01T00:00:00Z","times":2,"retry_at":1767323045,"reason":"no \u001b place"}"#;
    fs::write(state.join(format!("{SESSION}.aside")), aside).unwrap();
    let status =
        r#"{"kind":"directory","time":"2026-01-01T00:00:05Z","backlog":0,"aside":1,"last_error":"why"}"#;
    fs::write(state.join("status.json"), status).unwrap();
    let text = format!(
        "[datapath]\ninterfaces = [\"eth0\"]\n[recording]\nrecipient_key_file = \"/k.pub\"\nspool_dir = {spool:?}\n\
         [[ship]]\nname = \"archive\"\nkind = \"directory\"\npath = \"/archive\"\n\
         [[ship]]\nname = \"other\"\nkind = \"directory\"\npath = \"/other\"\nrequired = false\n"
    );
    fs::write(&config, text).unwrap();
    let args = ["shipping", "--config", config.to_str().unwrap()];

    let ran = run_in(&args, true, false);
    assert!(ran.success, "{}", ran.err);
    let lines: Vec<serde_json::Value> =
        ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [archive, other] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&archive["destination"], &archive["required"]), (&"archive".into(), &true.into()));
    assert_eq!((&archive["sessions"], &archive["bytes"]), (&1.into(), &5.into()));
    assert_eq!(
        (&archive["oldest"], &archive["last_error"]),
        (&"1970-01-01T00:00:01.000000Z".into(), &"why".into())
    );
    assert_eq!((&archive["aside"][0]["item"], &archive["aside"][0]["times"]), (&SESSION.into(), &2.into()));
    assert_eq!((&other["required"], &other["status_time"]), (&false.into(), &serde_json::Value::Null));

    let ran = run(&args);
    for part in
        ["archive (directory)", "1 sessions", "5 bytes", "failing    why", "no \\u001b place", "never run"]
    {
        assert!(ran.success && ran.out().contains(part), "{part:?} is missing: {}", ran.out());
    }
}
