//! The kernel's messages about links, addresses, routes and rules.

use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use kernel::netlink::{Link, message};
use netplan::Route;
use netproto::net::Mac;

/// A netlink message: what is taken for a route or a rule of ours is the same
/// after a way to the kernel and back.
pub fn netlink(data: &[u8]) {
    let Some(message) = read(data) else { return };
    match message {
        RouteNetlinkMessage::NewLink(message) => {
            let link = Link::from_message(&message);
            assert!(link.is_up || !link.has_carrier);
            assert!(link.ethernet.is_none() || link.ethernet == link.mac);
            assert!(link.mac.is_none_or(Mac::is_station));
        }
        RouteNetlinkMessage::NewAddress(message) => {
            if let Some(address) = message::address(&message) {
                assert!(!address.is_duplicate || !address.is_usable);
            }
        }
        RouteNetlinkMessage::NewRoute(message) => {
            let Some((route, _)) = message::route(&message) else { return };
            let again = there_and_back(RouteNetlinkMessage::NewRoute(message::to_route(&route)));
            let Some(RouteNetlinkMessage::NewRoute(message)) = again else { panic!("no route: {again:?}") };
            let (again, _) = message::route(&message).expect("it is a route");
            assert!(route.replaces(&again) && again.replaces(&route));
            assert_eq!(Route { destination: route.destination, ..again }, route);
        }
        RouteNetlinkMessage::NewRule(message) => {
            let Some(rule) = message::rule(&message) else { return };
            let again = there_and_back(RouteNetlinkMessage::NewRule(message::to_rule(&rule)));
            let Some(RouteNetlinkMessage::NewRule(message)) = again else { panic!("no rule: {again:?}") };
            assert_eq!(message::rule(&message), Some(rule));
        }
        _ => {}
    }
}

/// As the connection to the kernel reads a message.
fn read(data: &[u8]) -> Option<RouteNetlinkMessage> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(data).ok()?;
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => Some(inner),
        _ => None,
    }
}

fn there_and_back(message: RouteNetlinkMessage) -> Option<RouteNetlinkMessage> {
    let mut message = NetlinkMessage::from(message);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    read(&bytes)
}
