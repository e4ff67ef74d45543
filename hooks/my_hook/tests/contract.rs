//! The contract that every hook keeps, and the run in `my.yaml`.

use std::process::Command;

use my_hook::MyHook;

shanty::testing::hook_contract!(MyHook, "interval: 2");

#[test]
fn the_default_interval_is_a_hundred() {
    assert!(format!("{:?}", MyHook::default()).contains("interval: 100"));
}

#[test]
fn the_config_trains_with_the_hook() -> std::io::Result<()> {
    let work_dir = concat!(env!("CARGO_TARGET_TMPDIR"), "/my_hook");
    let train = ["train", "my.yaml", "--overwrite", "--work-dir", work_dir];
    let run = Command::new(env!("CARGO_BIN_EXE_my_hook")).args(train).output()?;
    let log = String::from_utf8_lossy(&run.stderr) + String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && log.contains("rises: "), "{log}");
    Ok(())
}
