//! Servers with odd habits, one each, and the parts of a message by class: by the
//! rule of [`crate::lenient`], what decides is asked for, and nothing else is.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::client::{Client, Dropped, Event, Identity, Output};
use super::lease::Lease;
use super::wire::{Kind, Message, Op, Options, code};
use crate::net::Mac;
use crate::pace::Moment;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const OPTIONS_AT: usize = 240;
const SNAME: usize = 44;
const FILE: usize = 108;

/// A good server's answer, as bytes.
fn answer(asked: &Message) -> Vec<u8> {
    let kind = if asked.kind == Kind::Discover { Kind::Offer } else { Kind::Ack };
    let options = Options {
        server: Some(SERVER),
        mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        lease_time: Some(7200),
        t1: Some(3000),
        t2: Some(6000),
        routers: vec![SERVER],
        client_id: asked.options.client_id.clone(),
        ..Options::default()
    };
    Message { op: Op::Reply, kind, yiaddr: ADDRESS, secs: 0, options, ..asked.clone() }.build()
}

/// The message's options up to its end, each with its code.
fn options(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut list = Vec::new();
    let mut rest = &bytes[OPTIONS_AT..];
    while let [code, len, after @ ..] = rest {
        if *code == code::END {
            break;
        }
        let (value, after) = after.split_at(usize::from(*len));
        list.push((*code, value.to_vec()));
        rest = after;
    }
    list
}

/// The message with other options.
fn rebuild(bytes: &mut Vec<u8>, list: &[(u8, Vec<u8>)]) {
    bytes.truncate(OPTIONS_AT);
    for (code, value) in list {
        bytes.extend_from_slice(&[&[*code, u8::try_from(value.len()).unwrap()], &value[..]].concat());
    }
    bytes.push(code::END);
}

/// Sends this in place of an option, or not at all.
fn set(bytes: &mut Vec<u8>, code: u8, value: Option<&[u8]>) {
    let mut list = options(bytes);
    list.retain(|(found, _)| *found != code);
    list.extend(value.map(|value| (code, value.to_vec())));
    rebuild(bytes, &list);
}

/// Sends this, too, before all others or after them.
fn add(bytes: &mut Vec<u8>, code: u8, value: &[u8], is_first: bool) {
    let mut list = options(bytes);
    let at = if is_first { 0 } else { list.len() };
    list.insert(at, (code, value.to_vec()));
    rebuild(bytes, &list);
}

/// The lease of a client from a server with this habit: its address, server, end
/// and routes in a line, or why there is none.
fn outcome(habit: impl Fn(&mut Vec<u8>)) -> Result<String, Dropped> {
    let mut client = Client::new(Identity::of("diskomator", MAC), 1);
    let mut now = Duration::from_secs(1000);
    client.link_up(now);
    let mut said = String::new();
    loop {
        match client.poll(now) {
            Output::Transmit(transmit) => {
                let mut bytes = answer(&Message::parse(&transmit.payload).unwrap());
                habit(&mut bytes);
                client.handle(now, &bytes)?;
            }
            Output::Event(Event::Odd(faults)) => said = faults.to_string(),
            Output::Event(Event::Bound { lease, .. }) => {
                for oddity in &lease.oddities {
                    write!(said, "{oddity}").unwrap();
                }
                return Ok(format!("{} | {said}", line(&lease)));
            }
            Output::Event(other) => panic!("{other:?}"),
            Output::Arp(_) => {}
            Output::Timeout(at) => now = at.unwrap_or(Moment::MAX),
        }
    }
}

fn line(lease: &Lease) -> String {
    let times = lease.terms.map(|terms| [terms.renew, terms.rebind, terms.expire].map(|time| time.as_secs()));
    let routers: Vec<_> = lease.routes.iter().filter_map(|route| route.router).collect();
    format!("{} of {} for {times:?} by {routers:?}, MTU {:?}", lease.address, lease.server, lease.mtu)
}

const GOOD: &str = "192.0.2.7/24 of 192.0.2.1 for Some([3000, 6000, 7200]) by [192.0.2.1], MTU None";
/// The same for an hour, with the times that follow from it.
const AN_HOUR: &str = "192.0.2.7/24 of 192.0.2.1 for Some([1800, 3150, 3600]) by [192.0.2.1], MTU None";
/// With the times that follow from its own.
const USUAL: &str = "192.0.2.7/24 of 192.0.2.1 for Some([3600, 6300, 7200]) by [192.0.2.1], MTU None";
const NO_ROUTER: &str = "192.0.2.7/24 of 192.0.2.1 for Some([3000, 6000, 7200]) by [], MTU None";

type Habit = fn(&mut Vec<u8>);

/// Each with the lease, and with what is said of it.
const ODD_SERVERS: [(&str, Habit, &str, &str); 52] = [
    ("a server identifier twice", |m| add(m, 54, &SERVER.octets(), false), GOOD, "option 54 cannot have 8 bytes"),
    ("another one behind it", |m| add(m, 54, &[10, 0, 0, 1], false), GOOD, "option 54 cannot have 8 bytes"),
    ("an empty one before it", |m| add(m, 54, &[], true), GOOD, ""),
    ("one of 0.0.0.0 before it", |m| add(m, 54, &[0; 4], true), GOOD, "option 54 cannot have 8 bytes"),
    ("a name with a space", |m| add(m, 12, b"front desk", false), GOOD, "option 12 has a value"),
    ("a name of no ASCII", |m| add(m, 12, "Gäste".as_bytes(), false), GOOD, "option 12 has a value"),
    ("an empty name", |m| add(m, 12, b"", false), GOOD, ""),
    ("an empty MTU", |m| add(m, 26, &[], false), GOOD, "option 26 cannot have 0 bytes"),
    ("an MTU of four bytes", |m| add(m, 26, &[0, 0, 5, 220], false), GOOD, "option 26 cannot have 4 bytes"),
    ("an MTU for BOOTP's children", |m| add(m, 26, &[2, 64], false), GOOD, "an MTU of 576 would switch IPv6 off"),
    ("no lease time", |m| set(m, 51, None), AN_HOUR, "does not say for how long"),
    ("a lease time of no bytes", |m| set(m, 51, Some(&[])), AN_HOUR, "option 51 cannot have 0 bytes"),
    ("a lease time of two bytes", |m| set(m, 51, Some(&[28, 32])), AN_HOUR, "option 51 cannot have 2"),
    ("a lease time of 0", |m| set(m, 51, Some(&[0; 4])), AN_HOUR, "does not say for how long"),
    ("a lease time twice", |m| add(m, 51, &[0, 0, 0, 60], false), GOOD, "option 51 cannot have 8 bytes"),
    (
        "T1 of one byte",
        |m| set(m, 58, Some(&[60])),
        "192.0.2.7/24 of 192.0.2.1 for Some([3600, 6000, 7200])",
        "option 58",
    ),
    ("T1 after T2", |m| set(m, 58, Some(&[0, 0, 24, 0])), USUAL, "the times to renew"),
    ("T2 after the end", |m| set(m, 59, Some(&[0, 1, 0, 0])), USUAL, "the times to renew"),
    ("T1 of 0", |m| set(m, 58, Some(&[0; 4])), USUAL, "the times to renew"),
    ("no mask", |m| set(m, 1, None), GOOD, "there is no network mask"),
    ("a mask of three bytes", |m| set(m, 1, Some(&[255; 3])), GOOD, "option 1 cannot have 3 bytes"),
    ("a mask with a hole", |m| set(m, 1, Some(&[255, 0, 255, 0])), GOOD, "255.0.255.0 is no network mask"),
    ("a mask back to front", |m| set(m, 1, Some(&[0, 255, 255, 255])), GOOD, "0.255.255.255 is no network mask"),
    ("a mask of 0.0.0.0", |m| set(m, 1, Some(&[0; 4])), GOOD, "0.0.0.0 is no network mask"),
    ("no router in its option", |m| set(m, 3, Some(&[])), NO_ROUTER, "option 3 cannot have 0 bytes"),
    ("a router and a half", |m| set(m, 3, Some(&[192, 0, 2, 1, 10, 0])), NO_ROUTER, "option 3 cannot have 6 bytes"),
    ("a router, then half of one", |m| add(m, 3, &[10, 0], false), GOOD, "option 3 cannot have 6 bytes"),
    ("a router of 0.0.0.0 first", |m| add(m, 3, &[0; 4], true), GOOD, "0.0.0.0 cannot be a router"),
    ("everybody as router", |m| set(m, 3, Some(&[255; 4])), NO_ROUTER, "255.255.255.255 cannot be a router"),
    ("classless routes cut short", |m| add(m, 121, &[24, 10, 0, 0, 192, 0], false), GOOD, "option 121 cannot have"),
    ("a classless prefix of 33 bits", |m| add(m, 121, &[33; 10], false), GOOD, "option 121 has a value"),
    (
        "a cut list after a good one",
        |m| {
            add(m, 121, &[0, 192, 0, 2, 9], false);
            add(m, 121, &[24, 10], false);
        },
        "192.0.2.7/24 of 192.0.2.1 for Some([3000, 6000, 7200]) by [192.0.2.9]",
        "option 121 cannot have 7 bytes",
    ),
    ("a text in the place of static routes", |m| add(m, 33, b"none", false), GOOD, ""),
    (
        "a name server of a byte, an empty domain and an empty file",
        |m| {
            for (code, value) in [(6, &[1][..]), (15, &[]), (28, &[9; 7]), (66, &[0]), (67, &[]), (249, &[99; 3])] {
                add(m, code, value, true);
            }
        },
        GOOD,
        "",
    ),
    ("a client id of one byte", |m| set(m, 61, Some(&[1])), GOOD, "option 61 cannot have 1 bytes"),
    ("a client id cut to seven bytes", |m| set(m, 61, Some(&Identity::of("diskomator", MAC).client_id[..7])), GOOD, ""),
    (
        "a client id with a zero byte after it",
        |m| set(m, 61, Some(&[&Identity::of("diskomator", MAC).client_id[..], &[0]].concat())),
        GOOD,
        "",
    ),
    ("a client id made of the hardware address", |m| set(m, 61, Some(&[1, 0x52, 0x54, 0, 0x12, 0x34, 0x56])), GOOD, ""),
    ("a client id twice", |m| add(m, 61, &Identity::of("diskomator", MAC).client_id, false), GOOD, ""),
    ("a message type twice", |m| add(m, 53, &[6], false), GOOD, "option 53 cannot have 2 bytes"),
    ("an overload of 4", |m| add(m, 52, &[4], false), GOOD, "option 52 has a value"),
    (
        "names where options should be",
        |m| {
            m[FILE..FILE + 10].copy_from_slice(b"pxelinux.0");
            m[SNAME..SNAME + 6].copy_from_slice(b"server");
            add(m, 52, &[3], false);
        },
        GOOD,
        "option 115 is longer than the message",
    ),
    ("an overload of empty fields", |m| add(m, 52, &[1], true), GOOD, "its options do not end"),
    (
        "no end",
        |m| {
            m.truncate(m.iter().rposition(|byte| *byte == 255).unwrap());
        },
        GOOD,
        "its options do not end",
    ),
    (
        "an option past the end",
        |m| {
            *m.last_mut().unwrap() = 0;
            m.truncate(m.iter().rposition(|byte| *byte == 255).unwrap());
            m.extend_from_slice(&[6, 8, 192, 0]);
        },
        GOOD,
        "option 6 is longer than the message",
    ),
    ("options after the end", |m| m.extend_from_slice(&[255, 51, 4, 0, 0, 0, 1, 54, 4, 9, 9, 9, 9]), GOOD, ""),
    ("nothing after the end", |m| rebuild(m, &options(&m.clone())), GOOD, ""),
    ("a message of 1400 bytes", |m| m.resize(1400, 0), GOOD, ""),
    (
        "pads between options",
        |m| {
            m.splice(OPTIONS_AT..OPTIONS_AT, [0; 31]);
        },
        GOOD,
        "",
    ),
    ("a request's operation", |m| m[0] = 1, GOOD, "1 is not the operation of a server"),
    ("no operation and no hardware", |m| m[..3].fill(0), GOOD, "hardware type 0 with addresses of 0 bytes"),
    (
        "junk in each field that is for others",
        |m| {
            // Hops; secs, flags and ciaddr; siaddr and giaddr; chaddr's padding, sname and file.
            m[3] = 77;
            m[8..16].fill(0xee);
            m[20..28].fill(0xee);
            m[34..236].fill(0xee);
        },
        GOOD,
        "",
    ),
];

#[test]
fn a_server_with_an_odd_habit_gives_a_lease_all_the_same() {
    assert_eq!(outcome(|_| {}).unwrap(), format!("{GOOD} | "));
    for (name, habit, lease, said) in ODD_SERVERS {
        let is = outcome(habit).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (is, oddities) = is.split_once(" | ").unwrap();
        assert!(is.starts_with(lease), "{name}: {is} is not {lease}");
        assert!(oddities.contains(said) && oddities.is_empty() == said.is_empty(), "{name}: {oddities:?}");
    }
}

/// Changes to a server's messages that the client must refuse.
const REFUSED: [(&str, Habit, &str); 20] = [
    ("another transaction", |m| m[7] ^= 1, "it answers transaction"),
    ("another hardware address", |m| m[33] ^= 1, "it is for 52:54:00:12:34:57"),
    ("no hardware address", |m| m[28..34].fill(0), "it is for 00:00:00:00:00:00"),
    ("another client id", |m| set(m, 61, Some(&[255, 9, 9, 9, 9, 0, 3])), "it is for another client id"),
    ("no cookie", |m| m[236..240].fill(0), "no magic cookie"),
    ("no options", |m| m.truncate(OPTIONS_AT), "it has no message type"),
    ("a part of the header", |m| m.truncate(OPTIONS_AT - 1), "it is truncated at 239 bytes"),
    ("nothing", Vec::clear, "it is truncated at 0 bytes"),
    ("no message type", |m| set(m, 53, None), "it has no message type"),
    ("a message type that there is not", |m| set(m, 53, Some(&[77])), "it has no message type"),
    ("a client's message type", |m| set(m, 53, Some(&[8])), "Inform is not what was asked for"),
    ("no server identifier", |m| set(m, 54, None), "which server it is from"),
    ("a server identifier of five bytes", |m| set(m, 54, Some(&[192, 0, 2, 1, 0])), "which server it is from"),
    ("a server identifier of 0.0.0.0", |m| set(m, 54, Some(&[0; 4])), "which server it is from"),
    ("everybody as server", |m| set(m, 54, Some(&[255; 4])), "which server it is from"),
    ("the address as server", |m| set(m, 54, Some(&ADDRESS.octets())), "192.0.2.7 cannot be a server's address"),
    ("no address", |m| m[16..20].fill(0), "no host can have the address 0.0.0.0"),
    ("everybody's address", |m| m[19] = 255, "no host can have the address 192.0.2.255"),
    ("the network's address", |m| m[19] = 0, "no host can have the address 192.0.2.0"),
    ("a group's address", |m| m[16] = 239, "no host can have the address 239"),
];

#[test]
fn nothing_is_taken_of_an_answer_that_lacks_what_decides() {
    for (name, habit, why) in REFUSED {
        let error = outcome(habit).expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn a_refusal_without_a_server_changes_nothing() {
    let refusal = |server: Option<&'static [u8]>| {
        outcome(move |m| {
            if m[OPTIONS_AT + 2] == Kind::Ack as u8 {
                m[OPTIONS_AT + 2] = Kind::Nak as u8;
                set(m, 54, server);
            }
        })
    };
    for bad in [None, Some(&[1, 2, 3][..]), Some(&[0; 4])] {
        assert_eq!(refusal(bad), Err(Dropped::WrongServer(None)));
    }
}

#[test]
fn a_refusal_with_odd_options_counts() {
    let outcome = outcome(|m| {
        if m[OPTIONS_AT + 2] == Kind::Ack as u8 {
            m[OPTIONS_AT + 2] = Kind::Nak as u8;
            m[16..20].fill(0xff);
            add(m, 12, b"front desk", true);
            add(m, 51, &[], true);
            m.pop();
        }
    });
    assert_eq!(outcome, Err(Dropped::Avoided(SERVER)), "it begins again, and others come first");
}

/// The parts of a message by class. Each option's lengths are those that it can
/// have; no other part of a message is read.
const DECIDES: [(u8, usize); 2] = [(code::KIND, 1), (code::SERVER, 4)];
const HELPS: [(u8, &[usize]); 10] = [
    (code::MASK, &[4]),
    (code::ROUTERS, &[4, 8, 12]),
    (code::HOSTNAME, &[]),
    (code::MTU, &[2]),
    (code::LEASE_TIME, &[4]),
    (code::T1, &[4]),
    (code::T2, &[4]),
    (code::OVERLOAD, &[1]),
    (code::ROUTES, &[0]),
    (code::REQUESTED, &[4]),
];

#[test]
fn each_option_is_of_one_class_and_no_length_of_any_spoils_what_it_does_not_decide() {
    for code in 1..255_u8 {
        if code == code::CLIENT_ID {
            continue;
        }
        for len in 0..=13_usize {
            // A byte that no list, name or overload can begin with.
            let value = vec![b'~'; len];
            let replaced = outcome(|m| set(m, code, Some(&value)));
            let (decides, helps) = (
                DECIDES.iter().find(|(found, _)| *found == code),
                HELPS.iter().find(|(found, _)| *found == code).map(|(_, lengths)| *lengths),
            );
            let is = replaced.as_deref().map(|text| text.split_once(" | ").unwrap().0);
            match (decides, helps) {
                (Some((_, right)), _) if len == *right => {}
                (Some(_), _) => assert!(replaced.is_err(), "option {code} of {len} bytes: {replaced:?}"),
                (None, Some(lengths)) if lengths.contains(&len) => assert!(replaced.is_ok(), "option {code}"),
                // As without it.
                (None, Some(_)) => {
                    let without = outcome(|m| set(m, code, None)).unwrap();
                    assert_eq!(is, Ok(without.split_once(" | ").unwrap().0), "option {code} of {len} bytes");
                }
                (None, None) => assert_eq!(replaced.as_deref(), Ok(format!("{GOOD} | ").as_str()), "option {code}"),
            }
            // A bad copy before or after a good one is none.
            let is_good = decides.is_some_and(|(_, right)| *right == len) || helps.is_some_and(|h| h.contains(&len));
            for is_first in [true, false] {
                if !is_good {
                    let added = outcome(|m| add(m, code, &value, is_first)).unwrap();
                    assert_eq!(added.split_once(" | ").unwrap().0, GOOD, "option {code} of {len} bytes added");
                }
            }
        }
    }
}

#[test]
fn an_acknowledgement_by_another_server_or_for_another_address_is_taken_but_not_both() {
    let is_ack = |m: &[u8]| m[OPTIONS_AT + 2] == Kind::Ack as u8;
    let server: Habit = |m| set(m, 54, Some(&[192, 0, 2, 2]));
    let address: Habit = |m| m[19] = 8;
    let of = |habits: &[Habit]| {
        outcome(|m| habits.iter().filter(|_| is_ack(m)).collect::<Vec<_>>().iter().for_each(|habit| habit(m)))
    };
    assert!(of(&[server]).unwrap().starts_with("192.0.2.7/24 of 192.0.2.2 "));
    assert!(of(&[server]).unwrap().ends_with("the server 192.0.2.1 was asked, and another one answers"));
    assert!(of(&[address]).unwrap().starts_with("192.0.2.8/24 of 192.0.2.1 "));
    assert_eq!(of(&[server, address]), Err(Dropped::WrongServer(Some(Ipv4Addr::new(192, 0, 2, 2)))));
}
