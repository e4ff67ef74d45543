//! The contract that every hook keeps.

use my_hook::MyHook;

shanty::testing::hook_contract!(MyHook, "interval: 2");

#[test]
fn the_default_interval_is_a_hundred() {
    assert!(format!("{:?}", MyHook::default()).contains("interval: 100"));
}
