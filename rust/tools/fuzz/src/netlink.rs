//! The kernel's messages about links, addresses, routes and rules.

use kernel::netlink::{Address, Link, Route, Route6, Rule};
use netproto::net::Mac;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

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
            if let Some(address) = Address::from_message(&message) {
                assert!(address.prefix4().is_none_or(|prefix| prefix.address() == address.ip));
            }
        }
        RouteNetlinkMessage::NewRoute(message) => {
            if let Some((route, _)) = Route6::from_message(&message) {
                let again = there_and_back(RouteNetlinkMessage::NewRoute(route.to_message()));
                let Some(RouteNetlinkMessage::NewRoute(message)) = again else { panic!("no route: {again:?}") };
                assert_eq!(Route6::from_message(&message), Some((route, 0)));
            }
            let Some(route) = Route::from_message(&message) else { return };
            let again = there_and_back(RouteNetlinkMessage::NewRoute(route.to_message()));
            let Some(RouteNetlinkMessage::NewRoute(message)) = again else { panic!("no route: {again:?}") };
            let again = Route::from_message(&message).expect("it is ours");
            assert!(route.replaces(&again) && again.replaces(&route));
            assert_eq!((again.link, again.router, again.source), (route.link, route.router, route.source));
            assert_eq!(again.origin, route.origin);
        }
        RouteNetlinkMessage::NewRule(message) => {
            let Some(rule) = Rule::from_message(&message) else { return };
            let again = there_and_back(RouteNetlinkMessage::NewRule(rule.to_message()));
            let Some(RouteNetlinkMessage::NewRule(message)) = again else { panic!("no rule: {again:?}") };
            assert_eq!(Rule::from_message(&message), Some(rule));
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
