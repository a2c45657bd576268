//! The planner's fake kernel beside the real one: both get the same operations by
//! chance, and must give the same answers and have the same objects afterwards.

use std::time::{Duration, Instant};

use kernel::netlink::Netlink;
use netplan::fake::Fake;
use netplan::fake::chance;
use netplan::{Address, Desired, Family, Item, Lifetimes, NetOp, State, plan, source_routes};
use netproto::rng::Rng;

use crate::lab::{in_namespaces, put, run};

/// The index of a link that is not there.
const GONE: u32 = 4000;
const ROUNDS: u64 = 400;

/// Two links that are up, on which the kernel makes no objects of its own.
fn links(netlink: &Netlink) -> [u32; 2] {
    for (link, peer) in [("one0", "one1"), ("two0", "two1")] {
        run("ip", &["link", "add", link, "type", "veth", "peer", "name", peer]);
        put(&format!("/proc/sys/net/ipv6/conf/{peer}/disable_ipv6"), "1");
        // No link-local address, and no search for duplicates, which takes its time.
        for (name, value) in [("addr_gen_mode", "1"), ("accept_dad", "0"), ("accept_ra", "0")] {
            put(&format!("/proc/sys/net/ipv6/conf/{link}/{name}"), value);
        }
        put(&format!("/proc/sys/net/ipv4/conf/{link}/promote_secondaries"), "1");
        run("ip", &["link", "set", peer, "up"]);
        run("ip", &["link", "set", link, "up"]);
    }
    let all = netlink.links().unwrap();
    ["one0", "two0"].map(|name| all.iter().find(|link| link.name == name).unwrap().index)
}

fn look(netlink: &Netlink) -> State {
    let both = [Family::V4, Family::V6];
    State {
        addresses: netlink.addresses().unwrap().into_iter().filter(|address| !address.ip.is_loopback()).collect(),
        routes: both.into_iter().flat_map(|family| netlink.routes(family).unwrap()).collect(),
        rules: both.into_iter().flat_map(|family| netlink.rules(family).unwrap()).collect(),
        without_rules: Vec::new(),
    }
}

/// All that both kernels must agree on, as commands in one order: not the order of
/// objects, and of times only whether there is one.
fn comparable(state: &State) -> Vec<String> {
    let hour = |time: Option<Duration>| time.map(|_| Duration::from_secs(3600));
    let address = |address: &Address| {
        let lifetimes =
            Lifetimes { preferred: hour(address.lifetimes.preferred), valid: hour(address.lifetimes.valid) };
        Item::Address(Address { lifetimes, ..address.clone() })
    };
    let addresses = state.addresses.iter().map(address);
    let routes = state.routes.iter().copied().map(Item::Route);
    let rules = state.rules.iter().copied().map(Item::Rule);
    let mut all: Vec<String> = addresses.chain(routes).chain(rules).map(|item| NetOp::Add(item).to_string()).collect();
    all.sort();
    all
}

/// The kernel finishes some of its work after its answer.
fn agree(netlink: &Netlink, fake: &Fake, context: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let (real, made_up) = (comparable(&look(netlink)), comparable(&fake.state()));
        if real == made_up {
            return;
        }
        if Instant::now() > end {
            let only = |one: &[String], other: &[String]| {
                one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>().join("\n")
            };
            panic!(
                "{context}\nthe kernel alone has\n{}\nthe fake alone has\n{}\nall of the kernel's\n{}",
                only(&real, &made_up),
                only(&made_up, &real),
                real.join("\n")
            );
        }
    }
}

#[test]
#[ignore = "needs network namespaces; run by make test"]
fn the_fake_kernel_does_as_the_real_one() {
    in_namespaces("planned::the_fake_kernel_does_as_the_real_one", |_| {
        let netlink = Netlink::new().unwrap();
        let links = links(&netlink);
        let mut fake = Fake::new(&links);
        let mut history = Vec::new();
        let mut both = |fake: &mut Fake, op: &NetOp, seed: u64| {
            history.push(op.to_string());
            let said = netlink.apply(op).err().map(|error| error.io().raw_os_error().unwrap());
            let expected = fake.apply(op).err().map(|errno| errno as i32);
            let last = history[history.len().saturating_sub(12)..].join("\n");
            assert_eq!(said, expected, "errno of the kernel and of the fake, seed {seed}, after\n{last}");
            agree(&netlink, fake, &format!("seed {seed}, after\n{last}"));
        };
        for seed in 0..ROUNDS {
            let mut rng = Rng::new(seed);
            let mut below = |bound| rng.below(bound);
            if below(4) == 0 {
                let at = usize::try_from(below(2)).unwrap();
                for (word, up) in [("down", false), ("up", true)] {
                    run("ip", &["link", "set", ["one0", "two0"][at], word]);
                    fake.set_up(links[at], up);
                    agree(&netlink, &fake, &format!("seed {seed}: link {word}"));
                }
            }
            for _ in 0..below(3) {
                both(&mut fake, &chance::foreign(links, GONE, &mut below), seed);
            }
            let wanted = if below(3) == 0 {
                source_routes(&look(&netlink), &links, &links)
            } else {
                chance::desired(links, &mut below)
            };
            for _ in 0..below(4) {
                if let Some(op) = chance::wild(&fake.state(), &wanted, &mut below) {
                    both(&mut fake, &op, seed);
                }
            }
            settle(&netlink, &mut fake, &wanted, seed, &mut both);
        }
        assert!(history.len() > 200, "{} operations are no test", history.len());
    });
}

/// The plan for the kernel's own state is empty after it was applied.
fn settle(
    netlink: &Netlink,
    fake: &mut Fake,
    wanted: &Desired,
    seed: u64,
    both: &mut impl FnMut(&mut Fake, &NetOp, u64),
) {
    let ops = plan(wanted, &look(netlink));
    let done: Vec<String> = ops.iter().map(ToString::to_string).collect();
    for op in ops {
        both(fake, &op, seed);
    }
    let state = look(netlink);
    let rest: Vec<String> = plan(wanted, &state).iter().map(ToString::to_string).collect();
    assert!(
        rest.is_empty(),
        "seed {seed}: of the plan\n{}\nthe kernel refused\n{}\nin\n{}",
        done.join("\n"),
        rest.join("\n"),
        comparable(&state).join("\n")
    );
}
