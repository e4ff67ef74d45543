//! What ranks say to each other, as real processes: the test starts itself under each launcher.

use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shanty::base::{Elem, Result};
use shanty::comm::{Comm, Place, join};
use shanty::testing::ranks;

use crate::launcher::{installed, mpirun};

/// Says to a started process what it is to do.
const SCENE: &str = "SHANTY_TEST_SCENE";

/// Starts this test on ranks; what they did, by launcher.
fn on_ranks(test: &str, scene: &str, worlds: &[usize]) -> Vec<(String, Output, Duration)> {
    let exe = std::env::current_exe().unwrap();
    let mut all = Vec::new();
    for launcher in installed(test) {
        for world in worlds {
            let mut command = mpirun(&launcher, *world, &exe);
            command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(SCENE, scene);
            let began = Instant::now();
            let output = command.output().unwrap();
            all.push((format!("{:?} on {world}", launcher.0), output, began.elapsed()));
        }
    }
    all
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The number that a rank gives to a place of a sum: such that another order of the ranks gives other bits.
fn number(rank: usize, at: usize) -> f64 {
    let x = (at as f64 + 1.0) * 0.618_033_988_749_895;
    (x.fract() - 0.5) * [1.0, 3e7, -2.999_999_9e7, 0.1][rank % 4]
}

fn element(rank: usize, at: usize) -> Elem {
    number(rank, at) as Elem
}

/// `r0 + r1 + r2 …`, as one process adds them.
fn in_order<T: std::ops::Add<Output = T>>(world: usize, at: usize, of: fn(usize, usize) -> T) -> T {
    (1..world).fold(of(0, at), |sum, rank| sum + of(rank, at))
}

/// Each call with a closed form, for any transport.
fn speak(comm: &dyn Comm) -> Result<()> {
    let Place { rank, world, .. } = comm.place();
    for n in [0, 1, 5, 700, 3000] {
        let mut numbers: Vec<f64> = (0..n).map(|at| number(rank, at)).collect();
        comm.sum(&mut numbers)?;
        let expected: Vec<f64> = (0..n).map(|at| in_order(world, at, number)).collect();
        assert!(numbers.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits())), "{n} numbers");
    }
    // Several under way, other calls between, finished in another order.
    let sizes = [0, 1, 3, 1017, 1018, 5000, 300_007];
    let mut sums = Vec::new();
    for n in sizes {
        sums.push((n, comm.start_sum((0..n).map(|at| element(rank, at)).collect(), 0.1)?));
        comm.poll()?;
        assert_eq!(comm.agree(1 << rank)?, (1 << world) - 1);
    }
    for (n, sum) in sums.into_iter().rev() {
        let sum = comm.finish(sum)?;
        assert_eq!(sum.len(), n);
        for (at, sum) in sum.iter().enumerate() {
            assert_eq!(sum.to_bits(), (in_order(world, at, element) * 0.1).to_bits(), "element {at} of {n}");
        }
    }
    // Bytes of any length; of 10 kB they are more than one message.
    for scale in [0, 1, 10_000] {
        let given = |rank: usize| vec![rank as u8 + 1; (rank + 1) * scale];
        assert_eq!(comm.gather(&given(rank))?, (0..world).map(given).collect::<Vec<_>>());
        let mut data = given(rank);
        comm.broadcast(world - 1, &mut data)?;
        assert_eq!(data, given(world - 1));
    }
    assert!(comm.broadcast(world, &mut Vec::new()).is_err());
    Ok(())
}

#[test]
fn ranks_add_up_in_their_order_and_gather() {
    const TEST: &str = "speak::ranks_add_up_in_their_order_and_gather";
    if std::env::var_os(SCENE).is_some() {
        let comm = join().unwrap();
        let Place { rank, world, local_rank, local_world } = comm.place();
        assert_eq!((local_rank, local_world), (rank, world), "all on this machine");
        speak(&*comm).unwrap();
        comm.close().unwrap();
        println!("rank {rank} of {world} is done");
        return;
    }
    for (what, output, _) in on_ranks(TEST, "speak", &[2, 3]) {
        let said = said(&output);
        assert!(output.status.success(), "{what}: {said}");
        let world: usize = what[what.len() - 1..].parse().unwrap();
        for rank in 0..world {
            assert!(said.contains(&format!("rank {rank} of {world} is done")), "{what}: {said}");
        }
    }
    for world in 1..5 {
        ranks(world, |_, comm| speak(&*comm)).unwrap();
    }
}

/// What goes wrong in a scene; the last rank is the one to blame.
fn go_wrong(comm: &Arc<dyn Comm>, scene: &str) -> Result<()> {
    let Place { rank, world, .. } = comm.place();
    let odd = rank + 1 == world;
    match scene {
        "lengths" => comm.sum(&mut vec![1.0; 4 + usize::from(odd)]),
        "tensors" => {
            comm.start_sum(vec![1.0; 9000 + usize::from(odd)], 1.0).and_then(|sum| comm.finish(sum)).map(drop)
        }
        "kinds" if odd => comm.gather(b"x").map(drop),
        "kinds" => comm.sum(&mut [1.0]),
        "fails" if odd => Err(shanty::base::Error::invalid("the disk is full")),
        "late" if odd => loop {
            std::thread::park();
        },
        // The launcher notices first.
        "vanishes" => comm.agree(0).map(drop),
        _ => {
            comm.set_patience(Duration::from_millis(300));
            comm.agree(0).map(drop)
        }
    }
}

/// Calls that do not match, and ranks that fail, hang or vanish: all end in seconds, and one tells why.
#[test]
fn a_group_that_comes_apart_ends_with_one_message() {
    const TEST: &str = "speak::a_group_that_comes_apart_ends_with_one_message";
    if let Ok(scene) = std::env::var(SCENE) {
        let comm = join().unwrap();
        let rank = comm.place().rank;
        if scene == "vanishes" && rank == 1 {
            std::process::abort();
        }
        let error = go_wrong(&comm, &scene).unwrap_err().to_string();
        if comm.fail(&error) {
            println!("TOLD BY {rank}: {error}.");
        }
        comm.abort(7);
    }
    let scenes = [
        (
            "lengths",
            "TOLD BY 0: the ranks have come apart: rank 0 came to a sum of 4 numbers (call 2), rank 1 to a sum of 5",
        ),
        (
            "tensors",
            "rank 0 came to a sum of 9000 elements of tensors (call 2), rank 1 to a sum of 9001 elements",
        ),
        (
            "kinds",
            "the ranks have come apart: rank 0 came to a sum of 1 numbers (call 2), rank 1 to a gathering",
        ),
        ("fails", "TOLD BY 1: the disk is full."),
        ("late", "TOLD BY 0: rank 1 has not come to a gathering (call 2) within 300ms"),
        ("vanishes", ""),
    ];
    for (scene, expected) in scenes {
        for (what, output, took) in on_ranks(TEST, scene, &[2]) {
            let said = said(&output);
            let told = said.matches("TOLD BY").count();
            assert!(!output.status.success(), "{scene}, {what}: {said}");
            assert!(took < Duration::from_secs(10), "{scene}, {what} took {took:?}: {said}");
            assert!(
                told == usize::from(!expected.is_empty()) && said.contains(expected),
                "{scene}, {what}: {said}"
            );
            if scene != "vanishes" {
                assert_eq!(output.status.code(), Some(7), "{scene}, {what}: {said}");
            }
        }
    }
}
