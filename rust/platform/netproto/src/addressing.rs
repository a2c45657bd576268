//! Which IP addresses a link has by the settings of this boot, and whether it
//! asks for one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::net::{Mac, Prefix4, class_prefix, is_link_name, is_unicast};

/// Which links are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// None in particular. For an address, one that is chosen: the first
    /// Ethernet link with a carrier. For all else, every link.
    Any,
    /// The one with this name.
    Name(String),
    /// The one with this hardware address.
    Mac(Mac),
}

/// An address that does not come from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// The length of its network's prefix.
    pub prefix_len: u8,
    /// The default route's router, of the same family.
    pub gateway: Option<IpAddr>,
}

/// The way a link gets its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Ask for an address, which is what links do.
    Dhcp,
    /// Not ask for one, nor choose one.
    Off,
    /// Have this one.
    Address(Address),
}

/// One word: `[DEV:]ADDR/PREFIX[,GATEWAY]`, `[DEV:]off` or `[DEV:]dhcp`. An
/// IPv6 address may be in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which links.
    pub device: Device,
    /// The way they get their addresses.
    pub method: Method,
}

/// Why a word means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressingError {
    /// It is none of the forms.
    #[error("{0:?} is neither ADDRESS/PREFIX nor off or dhcp")]
    NoForm(String),
    /// There is no prefix, which nobody could guess.
    #[error("{0} needs the length of its network's prefix, as in {0}/24")]
    NoPrefix(Ipv4Addr),
    /// The same.
    #[error("{0} needs the length of its network's prefix, as in {0}/64")]
    NoPrefix6(Ipv6Addr),
    /// No prefix is like that.
    #[error("{0:?} is no prefix length, nor a network mask")]
    BadPrefix(String),
    /// No host can have it.
    #[error("no host can have the address {0}/{1}")]
    BadAddress(IpAddr, u8),
    /// It cannot be a router, or not this address's.
    #[error("{0:?} cannot be the router for this address")]
    BadGateway(String),
    /// No link can be called that.
    #[error("{0:?} is no link's name")]
    BadDevice(String),
}

impl Device {
    /// Whether the link is meant; `is_chosen` says whether it is the one that
    /// was chosen for [`Device::Any`].
    fn is(&self, name: &str, mac: Mac, is_chosen: bool) -> bool {
        match self {
            Self::Any => is_chosen,
            Self::Name(own) => own == name,
            Self::Mac(own) => *own == mac,
        }
    }
}

impl FromStr for Device {
    type Err = AddressingError;

    fn from_str(text: &str) -> Result<Self, AddressingError> {
        if let Some(mac) = parse_mac(text) {
            return Ok(Self::Mac(mac));
        }
        if is_link_name(text) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(AddressingError::BadDevice(text.to_owned()))
        }
    }
}

impl Address {
    fn new(ip: IpAddr, prefix_len: u8, gateway: Option<IpAddr>) -> Result<Self, AddressingError> {
        let is_good = match ip {
            IpAddr::V4(ip) => {
                Prefix4::new(ip, prefix_len).is_some_and(|prefix| prefix.len() > 0 && prefix.is_host())
                    || ip.is_link_local() && (1..=32).contains(&prefix_len)
            }
            IpAddr::V6(ip) => is_unicast6(ip) && (1..=128).contains(&prefix_len),
        };
        if !is_good {
            return Err(AddressingError::BadAddress(ip, prefix_len));
        }
        let is_router = |router: IpAddr| match (ip, router) {
            (IpAddr::V4(ip), IpAddr::V4(router)) => is_unicast(router) && router != ip,
            (IpAddr::V6(ip), IpAddr::V6(router)) => is_unicast6(router) && router != ip,
            _ => false,
        };
        match gateway {
            Some(router) if !is_router(router) => Err(AddressingError::BadGateway(router.to_string())),
            gateway => Ok(Self { ip, prefix_len, gateway }),
        }
    }

    /// The address with its prefix, if it is of IPv4.
    pub fn prefix4(&self) -> Option<Prefix4> {
        match self.ip {
            IpAddr::V4(ip) => Prefix4::new(ip, self.prefix_len),
            IpAddr::V6(_) => None,
        }
    }
}

impl FromStr for Address {
    type Err = AddressingError;

    fn from_str(text: &str) -> Result<Self, AddressingError> {
        let (own, router) = match text.split_once(',') {
            Some((own, router)) => (own, Some(router)),
            None => (text, None),
        };
        let (ip, len) = match own.split_once('/') {
            Some((ip, len)) => (ip, Some(len)),
            None => (own, None),
        };
        let ip = parse_ip(ip).ok_or_else(|| AddressingError::NoForm(text.to_owned()))?;
        let len = match (len, ip) {
            (Some(len), IpAddr::V4(_)) => prefix_len(len)?,
            (Some(len), IpAddr::V6(_)) => len.parse().map_err(|_| AddressingError::BadPrefix(len.to_owned()))?,
            (None, IpAddr::V4(ip)) => return Err(AddressingError::NoPrefix(ip)),
            (None, IpAddr::V6(ip)) => return Err(AddressingError::NoPrefix6(ip)),
        };
        let bad_gateway = |text: &str| AddressingError::BadGateway(text.to_owned());
        let gateway = router.map(|text| parse_ip(text).ok_or_else(|| bad_gateway(text))).transpose()?;
        Self::new(ip, len, gateway)
    }
}

impl FromStr for Method {
    type Err = AddressingError;

    fn from_str(text: &str) -> Result<Self, AddressingError> {
        match text {
            "dhcp" => Ok(Self::Dhcp),
            "off" => Ok(Self::Off),
            other => other.parse().map(Self::Address),
        }
    }
}

impl FromStr for Setting {
    type Err = AddressingError;

    fn from_str(text: &str) -> Result<Self, AddressingError> {
        /// Six bytes in hexadecimal, parted by colons.
        const MAC_LEN: usize = 17;
        let whole = text.parse();
        // Six groups of two digits can also begin an IPv6 address.
        if let Some((mac, rest)) = text.split_at_checked(MAC_LEN) {
            if let (Some(mac), Some(rest)) = (parse_mac(mac), rest.strip_prefix(':')) {
                match (rest.parse(), &whole) {
                    (Ok(method), _) => return Ok(Self { device: Device::Mac(mac), method }),
                    (Err(error), Err(_)) => return Err(error),
                    (Err(_), Ok(_)) => {}
                }
            }
        }
        match (whole, text.split_once(':')) {
            (Ok(method), _) => Ok(Self { device: Device::Any, method }),
            // Not an address with something wrong about it.
            (Err(AddressingError::NoForm(_)), Some((device, rest))) => {
                Ok(Self { device: device.parse()?, method: rest.parse()? })
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.device {
            Device::Any => {}
            Device::Name(name) => write!(f, "{name}:")?,
            Device::Mac(mac) => write!(f, "{mac}:")?,
        }
        match self.method {
            Method::Dhcp => write!(f, "dhcp"),
            Method::Off => write!(f, "off"),
            Method::Address(Address { ip, prefix_len, gateway }) => {
                match (ip, &self.device) {
                    // A name can look like the beginning of an IPv6 address.
                    (IpAddr::V6(ip), Device::Name(_)) => write!(f, "[{ip}]/{prefix_len}")?,
                    _ => write!(f, "{ip}/{prefix_len}")?,
                }
                gateway.map_or(Ok(()), |gateway| write!(f, ",{gateway}"))
            }
        }
    }
}

/// Everything that was set, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addressing(Vec<Setting>);

impl Addressing {
    /// Adds a word. Whether a link asks is decided by the last word about it, so
    /// one that is about all links makes those before it pointless.
    pub fn add(&mut self, setting: Setting) {
        let is_about_asking = |setting: &Setting| !matches!(setting.method, Method::Address(_));
        let overrides = is_about_asking(&setting) && setting.device == Device::Any;
        self.0.retain(|earlier| *earlier != setting && !(overrides && is_about_asking(earlier)));
        if setting != (Setting { device: Device::Any, method: Method::Dhcp }) {
            self.0.push(setting);
        }
    }

    /// The words that say the same.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// Whether a link is to be chosen for an address that names none.
    pub fn needs_choice(&self) -> bool {
        self.chosen().next().is_some()
    }

    /// Whether `ip` is one of those.
    pub fn is_for_chosen(&self, ip: IpAddr) -> bool {
        self.chosen().any(|address| address.ip == ip)
    }

    fn chosen(&self) -> impl Iterator<Item = Address> {
        self.addresses_where(|device| *device == Device::Any)
    }

    /// The addresses of a link.
    pub fn addresses(&self, name: &str, mac: Mac, is_chosen: bool) -> impl Iterator<Item = Address> {
        self.addresses_where(move |device| device.is(name, mac, is_chosen))
    }

    fn addresses_where(&self, is_meant: impl Fn(&Device) -> bool) -> impl Iterator<Item = Address> {
        self.0.iter().filter_map(move |setting| match setting.method {
            Method::Address(address) if is_meant(&setting.device) => Some(address),
            _ => None,
        })
    }

    /// Whether a link asks for an IPv4 address: not if it has one, and not if
    /// the last word about it says so.
    pub fn asks(&self, name: &str, mac: Mac, is_chosen: bool) -> bool {
        let has_one = self.addresses(name, mac, is_chosen).any(|address| address.ip.is_ipv4());
        !has_one && self.may_ask(name, mac)
    }

    /// Whether a link asks for an IPv6 address where routers want that: by the
    /// same rules. One that is good on its link only is none to be had by asking.
    pub fn asks_for_ipv6(&self, name: &str, mac: Mac, is_chosen: bool) -> bool {
        let is_one = |ip| matches!(ip, IpAddr::V6(ip) if !ip.is_unicast_link_local());
        let has_one = self.addresses(name, mac, is_chosen).any(|address| is_one(address.ip));
        !has_one && self.may_ask(name, mac)
    }

    fn may_ask(&self, name: &str, mac: Mac) -> bool {
        let mut about_asking = self.0.iter().filter(|setting| !matches!(setting.method, Method::Address(_)));
        let last = about_asking.rfind(|setting| setting.device.is(name, mac, true));
        last.is_none_or(|setting| setting.method == Method::Dhcp)
    }
}

/// The kernel's own word, `ip=` (its `Documentation/admin-guide/nfs/nfsroot.rst`),
/// as far as it gives an address:
/// `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:…`. `None` is for all its other
/// forms, which leave the addresses to others.
pub fn from_kernel(value: &str) -> Result<Option<Setting>, AddressingError> {
    let fields: Vec<&str> = value.split(':').collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let ip = match field(0).parse() {
        Ok(Ipv4Addr::UNSPECIFIED) => return Ok(None),
        Ok(ip) => ip,
        // A protocol, nothing, or what other systems have made of it: a device
        // and a protocol, or IPv6 in brackets.
        Err(_) if fields.len() <= 2 || field(0).is_empty() || value.starts_with('[') => return Ok(None),
        Err(_) => return Err(AddressingError::NoForm(field(0).to_owned())),
    };
    let len = match field(3) {
        // "derived from the client IP address assuming classful addressing".
        "" => class_prefix(ip).len(),
        mask => prefix_len(mask)?,
    };
    let gateway = match (field(2), field(2).parse::<Ipv4Addr>()) {
        ("", _) | (_, Ok(Ipv4Addr::UNSPECIFIED)) => None,
        (_, Ok(router)) => Some(router),
        (text, Err(_)) => return Err(AddressingError::BadGateway(text.to_owned())),
    };
    let device = match field(5) {
        "" => Device::Any,
        name => name.parse()?,
    };
    let address = Address::new(ip.into(), len, gateway.map(IpAddr::from))?;
    Ok(Some(Setting { device, method: Method::Address(address) }))
}

/// A length, or a mask, of IPv4.
fn prefix_len(text: &str) -> Result<u8, AddressingError> {
    let from_mask = || Prefix4::from_mask(Ipv4Addr::UNSPECIFIED, text.parse().ok()?).map(Prefix4::len);
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let len = if is_number { text.parse().ok().filter(|len| *len <= 32) } else { from_mask() };
    len.ok_or_else(|| AddressingError::BadPrefix(text.to_owned()))
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}

fn is_unicast6(ip: Ipv6Addr) -> bool {
    !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn all(words: &[&str]) -> Addressing {
        let mut addressing = Addressing::default();
        for word in words {
            addressing.add(word.parse().unwrap());
        }
        addressing
    }

    fn of(words: &[&str], name: &str, is_chosen: bool) -> (Vec<String>, bool) {
        let addressing = all(words);
        let addresses = addressing
            .addresses(name, MAC, is_chosen)
            .map(|address| Setting { device: Device::Any, method: Method::Address(address) }.to_string());
        (addresses.collect(), addressing.asks(name, MAC, is_chosen))
    }

    #[test]
    fn each_form_is_understood_and_printed_as_it_can_be_set() {
        for (word, device) in [
            ("192.0.2.7/24", Device::Any),
            ("192.0.2.7/24,192.0.2.1", Device::Any),
            ("eth0:192.0.2.7/24,192.0.2.1", Device::Name("eth0".to_owned())),
            ("52:54:00:12:34:56:192.0.2.7/24", Device::Mac(MAC)),
            ("2001:db8::7/64", Device::Any),
            ("2001:db8::7/64,fe80::1", Device::Any),
            ("eth0:[2001:db8::7]/64", Device::Name("eth0".to_owned())),
            ("12:34:56:78:9a:bc:de:f0/64", Device::Any),
            ("52:54:00:12:34:56:2001:db8::7/64", Device::Mac(MAC)),
            ("52:54:00:12:34:56:off", Device::Mac(MAC)),
            ("off", Device::Any),
            ("enp1s0:off", Device::Name("enp1s0".to_owned())),
            ("enp1s0:dhcp", Device::Name("enp1s0".to_owned())),
            ("169.254.7.7/16", Device::Any),
        ] {
            let setting: Setting = word.parse().unwrap_or_else(|error| panic!("{word}: {error}"));
            assert_eq!((setting.device.clone(), setting.to_string()), (device, word.to_owned()));
        }
        for (word, same) in [
            ("192.0.2.7/255.255.255.0", "192.0.2.7/24"),
            ("eth0:2001:db8::7/64,[fe80::1]", "eth0:[2001:db8::7]/64,fe80::1"),
            ("[2001:db8::7]/64", "2001:db8::7/64"),
            ("52:54:00:AB:cd:EF:off", "52:54:00:ab:cd:ef:off"),
        ] {
            assert_eq!(word.parse::<Setting>().unwrap().to_string(), same);
        }
    }

    #[test]
    fn what_means_nothing_says_why() {
        for (word, why) in [
            ("", "\"\" is neither ADDRESS/PREFIX nor off or dhcp"),
            ("dchp", "\"dchp\" is neither ADDRESS/PREFIX nor off or dhcp"),
            ("eth0:", "\"\" is neither ADDRESS/PREFIX nor off or dhcp"),
            ("eth0:192.0.2/24", "\"192.0.2/24\" is neither ADDRESS/PREFIX nor off or dhcp"),
            ("192.0.2.7", "192.0.2.7 needs the length of its network's prefix, as in 192.0.2.7/24"),
            ("2001:db8::7", "2001:db8::7 needs the length of its network's prefix, as in 2001:db8::7/64"),
            ("192.0.2.7/33", "\"33\" is no prefix length, nor a network mask"),
            ("192.0.2.7/255.0.255.0", "\"255.0.255.0\" is no prefix length, nor a network mask"),
            ("192.0.2.7/+4", "\"+4\" is no prefix length, nor a network mask"),
            ("2001:db8::7/129", "no host can have the address 2001:db8::7/129"),
            ("2001:db8::7/", "\"\" is no prefix length, nor a network mask"),
            ("192.0.2.0/24", "no host can have the address 192.0.2.0/24"),
            ("192.0.2.7/0", "no host can have the address 192.0.2.7/0"),
            ("127.0.0.1/8", "no host can have the address 127.0.0.1/8"),
            ("ff02::1/64", "no host can have the address ff02::1/64"),
            ("192.0.2.7/24,192.0.2.7", "\"192.0.2.7\" cannot be the router for this address"),
            ("192.0.2.7/24,fe80::1", "\"fe80::1\" cannot be the router for this address"),
            ("192.0.2.7/24,", "\"\" cannot be the router for this address"),
            ("a-name-too-long-for-it:off", "\"a-name-too-long-for-it\" is no link's name"),
            ("a/b:off", "\"a/b\" is no link's name"),
            (":off", "\"\" is no link's name"),
        ] {
            assert_eq!(word.parse::<Setting>().unwrap_err().to_string(), why, "{word}");
        }
    }

    #[test]
    fn a_link_with_an_ipv4_address_does_not_ask() {
        assert_eq!(of(&[], "eth0", false), (vec![], true));
        assert_eq!(of(&["eth0:192.0.2.7/24"], "eth0", false), (vec!["192.0.2.7/24".to_owned()], false));
        assert_eq!(of(&["eth0:192.0.2.7/24"], "eth1", true), (vec![], true));
        assert!(!of(&["52:54:00:12:34:56:192.0.2.7/24"], "any", false).1);
        // IPv6 is another matter.
        assert_eq!(of(&["eth0:2001:db8::7/64"], "eth0", false), (vec!["2001:db8::7/64".to_owned()], true));
        let asks_for_ipv6 = |words: &[&str]| all(words).asks_for_ipv6("eth0", MAC, false);
        assert!(asks_for_ipv6(&["eth0:192.0.2.7/24"]) && asks_for_ipv6(&["eth0:fe80::7/64"]));
        assert!(!asks_for_ipv6(&["eth0:2001:db8::7/64"]) && !asks_for_ipv6(&["eth0:off"]));
        let two = ["eth0:192.0.2.7/24", "eth0:198.51.100.7/24", "eth0:192.0.2.7/24"];
        assert_eq!(of(&two, "eth0", false).0, ["198.51.100.7/24", "192.0.2.7/24"]);
    }

    #[test]
    fn an_address_for_no_link_in_particular_is_for_the_chosen_one() {
        let words = ["192.0.2.7/24", "2001:db8::7/64"];
        assert!(all(&words).needs_choice() && !all(&["eth0:192.0.2.7/24", "off"]).needs_choice());
        assert!(all(&words).is_for_chosen("192.0.2.7".parse().unwrap()));
        assert_eq!(of(&words, "eth0", true), (words.map(str::to_owned).to_vec(), false));
        assert_eq!(of(&words, "eth1", false), (vec![], true));
    }

    #[test]
    fn the_last_word_decides_whether_a_link_asks() {
        for (words, asks) in [
            (&["off"][..], false),
            (&["eth0:off"], false),
            (&["eth1:off"], true),
            (&["off", "eth0:dhcp"], true),
            (&["eth0:dhcp", "off"], false),
            (&["eth0:off", "dhcp"], true),
            (&["52:54:00:12:34:56:off"], false),
        ] {
            assert_eq!(of(words, "eth0", false).1, asks, "{words:?}");
        }
        assert_eq!(all(&["eth0:off", "dhcp"]), Addressing::default());
    }

    #[test]
    fn the_kernels_own_word_is_understood_as_far_as_it_gives_an_address() {
        let text = |value: &str| from_kernel(value).map(|setting| setting.map(|setting| setting.to_string()));
        for (value, setting) in [
            ("192.0.2.7::192.0.2.1:255.255.255.0:name:eth0:off", Some("eth0:192.0.2.7/24,192.0.2.1")),
            ("192.0.2.7:192.0.2.9::255.255.255.128:::none:192.0.2.3", Some("192.0.2.7/25")),
            ("192.0.2.7:::::eth0:dhcp", Some("eth0:192.0.2.7/24")),
            ("10.1.2.3", Some("10.1.2.3/8")),
            ("192.0.2.7::0.0.0.0:24::eth0", Some("eth0:192.0.2.7/24")),
            ("dhcp", None),
            ("on", None),
            ("", None),
            ("off", None),
            (":::::eth0:dhcp", None),
            ("0.0.0.0:::::eth0:dhcp", None),
            ("eth0:dhcp", None),
            ("[2001:db8::7]::[fe80::1]:64::eth0:none", None),
        ] {
            assert_eq!(text(value), Ok(setting.map(str::to_owned)), "{value}");
        }
        for (value, why) in [
            ("192.0.2::192.0.2.1:255.255.255.0::eth0:off", "\"192.0.2\" is neither ADDRESS/PREFIX nor off or dhcp"),
            ("192.0.2.7::x:255.255.255.0", "\"x\" cannot be the router for this address"),
            ("192.0.2.7:::255.255", "\"255.255\" is no prefix length, nor a network mask"),
            ("192.0.2.255:::255.255.255.0", "no host can have the address 192.0.2.255/24"),
        ] {
            assert_eq!(from_kernel(value).unwrap_err().to_string(), why, "{value}");
        }
    }

    #[test]
    fn noise_is_no_reason_to_panic() {
        let mut rng = crate::rng::Rng::new(3);
        let alphabet: Vec<char> = "0123456789abcdef:./,[]éo-".chars().collect();
        for _ in 0..50_000 {
            let word: String = (0..rng.below(40))
                .map(|_| alphabet[usize::try_from(rng.below(alphabet.len().try_into().unwrap())).unwrap()])
                .collect();
            let _ = from_kernel(&word);
            if let Ok(setting) = word.parse::<Setting>() {
                assert_eq!(setting.to_string().parse(), Ok(setting), "{word}");
            }
        }
    }
}
