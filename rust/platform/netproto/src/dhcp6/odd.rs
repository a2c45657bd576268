//! Servers with odd habits, one each, and the options by class: by the rule of
//! [`crate::lenient`], what decides is asked for, and nothing else is.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::client::{Client, Dropped, Event, Output};
use super::wire::{IaAddress, IaNa, Kind, Message, Options, code};
use crate::dhcp::client::Identity;
use crate::net::Mac;
use crate::pace::Moment;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const OPTIONS_AT: usize = 4;
/// Where the options of an `IA_NA` and of an address begin.
const IN_IA: usize = 12;
const IN_ADDRESS: usize = 24;

type List = Vec<(u16, Vec<u8>)>;

/// A good server's answer, as its options.
fn answer(asked: &Message) -> Message {
    let address = IaAddress { ip: ADDRESS, preferred: 1800, valid: 3600, status: None };
    let ia =
        IaNa { iaid: Identity::of("diskomator", MAC).iaid, t1: 900, t2: 1500, addresses: vec![address], status: None };
    let kind = if asked.kind == Kind::Solicit { Kind::Advertise } else { Kind::Reply };
    let options =
        Options { client: asked.options.client.clone(), server: SERVER.to_vec(), ias: vec![ia], ..Options::default() };
    Message { kind, xid: asked.xid, options }
}

fn split(mut rest: &[u8]) -> List {
    let mut list = Vec::new();
    while let Some(([a, b, c, d], after)) = rest.split_first_chunk::<4>() {
        let (value, after) = after.split_at(u16::from_be_bytes([*c, *d]).into());
        list.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        rest = after;
    }
    list
}

fn join(list: &[(u16, Vec<u8>)]) -> Vec<u8> {
    list.iter().flat_map(|(code, value)| option(*code, value)).collect()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// Changes the options.
fn edit(bytes: &mut Vec<u8>, change: impl FnOnce(&mut List)) {
    let mut list = split(&bytes[OPTIONS_AT..]);
    change(&mut list);
    bytes.truncate(OPTIONS_AT);
    bytes.extend(join(&list));
}

/// Sends this in place of an option, or not at all.
fn set(bytes: &mut Vec<u8>, code: u16, value: Option<&[u8]>) {
    edit(bytes, |list| {
        list.retain(|(found, _)| *found != code);
        list.extend(value.map(|value| (code, value.to_vec())));
    });
}

/// Sends this, too, before all others or after them.
fn add(bytes: &mut Vec<u8>, code: u16, value: &[u8], is_first: bool) {
    edit(bytes, |list| list.insert(if is_first { 0 } else { list.len() }, (code, value.to_vec())));
}

/// Changes the `IA_NA`'s bytes.
fn in_ia(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
    edit(bytes, |list| change(&mut list.iter_mut().find(|(code, _)| *code == code::IA_NA).unwrap().1));
}

/// Changes the address option's bytes.
fn in_address(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) {
    in_ia(bytes, |ia| {
        let mut list = split(&ia[IN_IA..]);
        change(&mut list[0].1);
        ia.truncate(IN_IA);
        ia.extend(join(&list));
    });
}

/// The lease of a client from a server with this habit, in seconds, or why there
/// is none; and the faults that the client reports of the server.
fn outcome(habit: impl Fn(&mut Vec<u8>)) -> Result<(String, String), Dropped> {
    let start = Duration::from_secs(1000);
    let mut client = Client::new(Identity::of("diskomator", MAC), 1);
    let mut now = start;
    client.link_up(now);
    client.set_managed(now, true);
    let mut said = String::new();
    loop {
        match client.poll(now) {
            Output::Transmit(payload) => {
                let mut bytes = answer(&Message::parse(&payload).unwrap()).build();
                habit(&mut bytes);
                client.handle(now, &bytes)?;
            }
            Output::Event(Event::Odd(faults)) => said = faults.to_string(),
            Output::Event(Event::Bound { address, preferred, until, .. }) => {
                let Output::Timeout(renew) = client.poll(now) else { panic!("not at rest") };
                let after = [renew, preferred, until].map(|at| at.map(|at| at.saturating_sub(now).as_secs()));
                return Ok((format!("{address} {after:?}"), said));
            }
            Output::Event(other) => panic!("{other:?}"),
            Output::Timeout(at) => now = at.unwrap_or(Moment::MAX),
        }
    }
}

/// Renewed, preferred and valid for how long.
const GOOD: &str = "2001:db8::7 [Some(900), Some(1800), Some(3600)]";

type Habit = fn(&mut Vec<u8>);

/// Each with the lease, and with what is said of it.
const ODD_SERVERS: [(&str, Habit, &str, &str); 37] = [
    ("a zero byte at the end", |m| m.push(0), GOOD, "1 bytes after its options"),
    ("two of them", |m| m.extend([0; 2]), GOOD, "2 bytes after its options"),
    ("three of them", |m| m.extend([0; 3]), GOOD, "3 bytes after its options"),
    ("empty options of code 0", |m| m.extend([0; 8]), GOOD, ""),
    ("an option past the end", |m| m.extend([0, 23, 0, 16, 0x20]), GOOD, "option 23 is longer"),
    ("an unknown option past the end", |m| m.extend([0xff, 0xff, 0xff, 0xff]), GOOD, "option 65535 is longer"),
    ("a status of no bytes", |m| add(m, 13, &[], false), GOOD, "option 13 cannot have 0 bytes"),
    ("a status of one byte", |m| add(m, 13, &[2], true), GOOD, "option 13 cannot have 1 bytes"),
    ("a status without a text", |m| add(m, 13, &[0, 0], false), GOOD, ""),
    ("a status in no language", |m| add(m, 13, &[0, 0, 0xff, 0, 0x1b, b'['], false), GOOD, ""),
    (
        "two good states",
        |m| {
            add(m, 13, &[0, 0], false);
            add(m, 13, &[0, 0], false);
        },
        GOOD,
        "option 13 occurs more",
    ),
    ("a preference of two bytes", |m| add(m, 7, &[0, 255], false), GOOD, "option 7 cannot have 2 bytes"),
    ("an empty preference", |m| add(m, 7, &[], false), GOOD, "option 7 cannot have 0 bytes"),
    ("an elapsed time of one byte", |m| add(m, 8, &[0], false), GOOD, "option 8 cannot have 1 bytes"),
    ("half of a request for options", |m| add(m, 6, &[0, 23, 0], false), GOOD, "option 6 cannot have 3 bytes"),
    ("an empty name", |m| add(m, 39, &[], false), GOOD, "option 39 cannot have 0 bytes"),
    ("a name that does not end", |m| add(m, 39, &[0, 63, b'a'], false), GOOD, ""),
    ("a SOL_MAX_RT of two bytes", |m| add(m, 82, &[0, 60], false), GOOD, "option 82 cannot have 2 bytes"),
    ("a SOL_MAX_RT of a second", |m| add(m, 82, &[0, 0, 0, 1], false), GOOD, ""),
    ("a SOL_MAX_RT of years", |m| add(m, 82, &[0xff; 4], false), GOOD, ""),
    ("name servers that are half an address", |m| add(m, 23, &[0x20; 7], true), GOOD, ""),
    (
        "no name server, domain, time server or vendor",
        |m| {
            for code in [11, 16, 17, 21, 22, 24, 31, 56, 59, 83] {
                add(m, code, &[], true);
            }
        },
        GOOD,
        "",
    ),
    ("its DUID twice", |m| add(m, 2, &SERVER, false), GOOD, "option 2 occurs more than once"),
    ("an empty DUID before its own", |m| add(m, 2, &[], true), GOOD, "option 2 cannot have 0 bytes"),
    ("a DUID of one byte", |m| set(m, 2, Some(&[7])), GOOD, ""),
    ("a DUID of no known type and 130 bytes", |m| set(m, 2, Some(&[0xee; 130])), GOOD, ""),
    (
        "our DUID twice",
        |m| add(m, 1, &Identity::of("diskomator", MAC).duid, false),
        GOOD,
        "option 1 occurs more than once",
    ),
    ("half an IA before it", |m| add(m, 3, &[0; 11], true), GOOD, "option 3 cannot have 11 bytes"),
    ("another client's IA before it", |m| add(m, 3, &[9; 12], true), GOOD, ""),
    (
        "an empty IA of ours before it",
        |m| {
            add(m, 3, &[&Identity::of("diskomator", MAC).iaid.to_be_bytes()[..], &[0; 8]].concat(), true);
        },
        GOOD,
        "",
    ),
    (
        "an IA of ours whose times make no sense before it",
        |m| {
            let times =
                [&Identity::of("diskomator", MAC).iaid.to_be_bytes()[..], &9_u32.to_be_bytes(), &8_u32.to_be_bytes()]
                    .concat();
            add(m, 3, &times, true);
        },
        GOOD,
        "",
    ),
    (
        "IAs for temporary addresses and prefixes",
        |m| {
            add(m, 4, &[0], true);
            add(m, 25, &[0; 3], true);
        },
        GOOD,
        "",
    ),
    ("stray bytes in its IA", |m| in_ia(m, |ia| ia.extend([0; 3])), GOOD, "3 bytes after its options"),
    (
        "half an address in its IA",
        |m| {
            in_ia(m, |ia| {
                ia.splice(IN_IA..IN_IA, option(5, &[0x20; 23]));
            });
        },
        GOOD,
        "option 5 cannot have 23 bytes",
    ),
    (
        "the same address twice",
        |m| {
            in_ia(m, |ia| {
                ia.extend(ia[IN_IA..].to_vec());
            });
        },
        GOOD,
        "",
    ),
    (
        "junk in its address",
        |m| in_address(m, |address| address.extend([0, 13, 0, 0, 9, 9, 0, 200, 1])),
        GOOD,
        "option 13 cannot have 0 bytes (counts as absent)",
    ),
    ("no times of its own", |m| in_ia(m, |ia| ia[4..12].fill(0)), GOOD, ""),
];

#[test]
fn a_server_with_an_odd_habit_gives_a_lease_all_the_same() {
    assert_eq!(outcome(|_| {}).unwrap(), (GOOD.to_owned(), String::new()));
    for (name, habit, lease, said) in ODD_SERVERS {
        let (is, faults) = outcome(habit).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(is, lease, "{name}");
        assert!(faults.contains(said) && faults.is_empty() == said.is_empty(), "{name}: {faults:?}");
    }
}

/// Changes to a server's messages that the client must refuse.
const REFUSED: [(&str, Habit, &str); 20] = [
    ("another transaction", |m| m[3] ^= 1, "it answers transaction"),
    ("no DUID of ours", |m| set(m, 1, None), "it is not for this client"),
    ("another client's DUID", |m| set(m, 1, Some(&SERVER)), "it is not for this client"),
    (
        "a part of our DUID",
        |m| set(m, 1, Some(&Identity::of("diskomator", MAC).duid[..9])),
        "it is not for this client",
    ),
    ("no DUID of its own", |m| set(m, 2, None), "which server it is from"),
    ("an empty DUID of its own", |m| set(m, 2, Some(&[])), "which server it is from"),
    ("a DUID of 131 bytes", |m| set(m, 2, Some(&[1; 131])), "which server it is from"),
    ("a part of the header", |m| m.truncate(3), "it is truncated at 3 bytes"),
    ("a RECONFIGURE", |m| m[0] = 10, "10 is no message of a client or a server"),
    ("a relay's message", |m| m[0] = 13, "13 is no message of a client or a server"),
    ("a client's message", |m| m[0] = 3, "Request is not what was asked for"),
    ("a refusal", |m| add(m, 13, &[0, 2], false), "the server says no, with status 2"),
    ("a refusal in the IA", |m| in_ia(m, |ia| ia.extend(option(13, &[0, 2]))), "the server says no, with status 2"),
    ("a refusal of the address", |m| in_address(m, |a| a.extend(option(13, &[0, 4]))), "there is no address in it"),
    ("no IA", |m| set(m, 3, None), "there is no answer about an address"),
    ("another IA", |m| in_ia(m, |ia| ia[3] ^= 1), "there is no answer about an address"),
    (
        "an address outside its IA",
        |m| {
            in_ia(m, |ia| ia.truncate(IN_IA));
            add(m, 5, &[0x20; 24], false);
        },
        "there is no address in it",
    ),
    (
        "T1 after T2",
        |m| in_ia(m, |ia| ia[4..12].copy_from_slice(&[0, 0, 9, 0, 0, 0, 8, 0])),
        "it is to be renewed after",
    ),
    ("no time", |m| in_address(m, |a| a[16..IN_ADDRESS].fill(0)), "there is no address in it"),
    ("a preferred lifetime after the end", |m| in_address(m, |a| a[16] = 1), "there is no address in it"),
];

#[test]
fn nothing_is_taken_of_an_answer_that_lacks_what_decides() {
    for (name, habit, why) in REFUSED {
        let error = outcome(habit).expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// The options that decide; of all others no bytes spoil a lease.
const DECIDES: [u16; 4] = [code::CLIENT_ID, code::SERVER_ID, code::IA_NA, code::STATUS];

#[test]
fn no_length_of_an_option_that_does_not_decide_spoils_a_lease() {
    for code in (0..=150).chain([255, 256, 0x7fff, 0xffff]) {
        for len in 0..=30 {
            let value = vec![0xa5; len];
            for is_first in [true, false] {
                let is = outcome(|m| add(m, code, &value, is_first)).map(|(lease, _)| lease);
                if is.as_deref() != Ok(GOOD) {
                    assert!(DECIDES.contains(&code), "option {code} of {len} bytes: {is:?}");
                }
            }
        }
    }
}
