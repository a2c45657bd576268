//! Who may log in over SSH: public keys, and a password that is good once.

use std::fmt;
use std::str::FromStr;

use crate::base64;

/// What `diskomator.ssh` says: whether the machine listens for SSH, and for whose keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// It listens.
    pub is_on: bool,
    /// Who may log in, beside those whose keys are given elsewhere.
    pub keys: Vec<PublicKey>,
}

impl Access {
    /// One more key, with which it listens.
    pub fn admit(&mut self, key: PublicKey) {
        self.is_on = true;
        if !self.keys.iter().any(|known| known.is_same(&key)) {
            self.keys.push(key);
        }
    }
}

/// The kinds of keys that the server knows, each with how many fields follow its
/// name in the key itself (RFC 8709 section 4; RFC 5656 section 3.1; RFC 4253
/// section 6.6; OpenSSH's `PROTOCOL.u2f`).
const KINDS: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("ssh-rsa", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// Longer keys are none: 16384 bits of RSA have 2.8 KB.
const KEY_MAX: usize = 4096;
/// What is kept of a comment, in characters.
const COMMENT_MAX: usize = 64;

/// A public key, as a line of `authorized_keys` without options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: &'static str,
    /// The key, in Base64.
    body: String,
    comment: String,
}

/// Why a text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none of the words that a key begins with.
    #[error("it is neither yes or no nor a public key, such as \"ssh-ed25519 AAAA…\"")]
    NoKey,
    /// What must never leave its owner's machine.
    #[error("it is a private key, and must be the public one; take a new pair")]
    Private,
    /// The server can't check signatures of it.
    #[error("keys of this kind are not known here; ssh-ed25519, ecdsa-sha2-nistp256 and ssh-rsa are, among others")]
    Kind,
    /// Its name says something else than it.
    #[error("the key is not of the kind that stands before it")]
    OtherKind,
    /// Some of it is missing, or was changed.
    #[error("the key is not complete")]
    Broken,
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads a line such as a file `id_ed25519.pub` has it, or the key in Base64
    /// alone, which says in its first bytes what kind it is of.
    fn from_str(line: &str) -> Result<Self, KeyError> {
        if line.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let mut words = line.split_ascii_whitespace();
        let first = words.next().ok_or(KeyError::NoKey)?;
        // Every key begins with the length of its kind's name, of which two bytes are 0.
        let (named, body) = if first.starts_with("AAAA") {
            (None, first)
        } else {
            let is_name = first.contains('-') && first.chars().all(|c| c.is_ascii_graphic());
            let body = words.next().filter(|_| is_name).ok_or(KeyError::NoKey)?;
            (Some(first), body)
        };
        if body.len() > KEY_MAX || line.contains(|c: char| c.is_control() && c != '\t') {
            return Err(KeyError::Broken);
        }
        let bytes = base64::decode(body.as_bytes()).ok_or(KeyError::Broken)?;
        let (kind, mut rest) = field(&bytes).ok_or(KeyError::Broken)?;
        if named.is_some_and(|named| named.as_bytes() != kind) {
            // Of a kind that nobody knows it is more likely that than a mistake.
            let is_known = KINDS.iter().any(|(known, _)| Some(*known) == named);
            return Err(if is_known { KeyError::OtherKind } else { KeyError::Kind });
        }
        let (kind, fields) = KINDS.into_iter().find(|(known, _)| known.as_bytes() == kind).ok_or(KeyError::Kind)?;
        for number in 0..fields {
            let (value, after) = field(rest).ok_or(KeyError::Broken)?;
            let is_whole = if kind == "ssh-ed25519" && number == 0 { value.len() == 32 } else { !value.is_empty() };
            if !is_whole {
                return Err(KeyError::Broken);
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(KeyError::Broken);
        }
        let comment = words.collect::<Vec<_>>().join(" ");
        let comment = comment.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' });
        let comment: String = comment.take(COMMENT_MAX).collect();
        Ok(Self { kind, body: body.to_owned(), comment: comment.trim_end().to_owned() })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.body)?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

impl PublicKey {
    /// Whether it lets the same person in.
    fn is_same(&self, other: &Self) -> bool {
        self.body == other.body
    }
}

/// A `string` of RFC 4251 section 5, and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// The key in a line of a file `authorized_keys`, which can have options before it.
fn key_of(line: &str) -> Option<&str> {
    let is_key = |word: &&str| word.starts_with("AAAA") && word.parse::<PublicKey>().is_ok();
    line.split_ascii_whitespace().find(is_key).filter(|_| !line.trim_ascii_start().starts_with('#'))
}

/// The lines of a file `authorized_keys` that let somebody in.
pub fn key_lines(file: &str) -> impl Iterator<Item = &str> {
    file.lines().filter(|line| key_of(line).is_some())
}

/// The file `authorized_keys` with the keys of `lines` in it, too; `None` if
/// they are there. What somebody wrote into it stays.
pub fn authorized_keys<'a>(file: &str, lines: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut text = file.trim_ascii_end().to_owned();
    let before = text.len();
    for line in lines {
        let Some(key) = key_of(line) else { continue };
        if text.lines().any(|known| key_of(known) == Some(key)) {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line.trim_ascii());
    }
    if text.len() == before {
        return None;
    }
    text.push('\n');
    Some(text)
}

/// Letters and digits that nobody takes for one another: no l, o, 0 or 1.
const SYMBOLS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// With five bits each, 75 together.
pub const PASSWORD_SYMBOLS: usize = 15;
/// What a person reads at one go.
const GROUP: usize = 5;

/// A password made of random bytes, which nobody but it may use.
pub fn password(random: &[u8; PASSWORD_SYMBOLS]) -> String {
    let symbol = |byte: &u8| SYMBOLS.get(usize::from(byte % 32)).copied().map_or('-', char::from);
    let groups: Vec<String> = random.chunks(GROUP).map(|group| group.iter().map(symbol).collect()).collect();
    groups.join("-")
}

/// The fingerprint in what `dropbearkey -y` says of a key.
pub fn fingerprint(said: &str) -> Option<&str> {
    let fingerprint = said.lines().find_map(|line| line.strip_prefix("Fingerprint: "))?.trim();
    let digest = fingerprint.strip_prefix("SHA256:")?;
    // 32 bytes, without what fills Base64 up.
    (digest.len() == 43 && digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)))
        .then_some(fingerprint)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVJlQV3uvuRQk/WwZlRqW84R54QqMaRcbUIjDI28UBs somebody@some where";
    const ECDSA: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBAXZfHPOECDSA";

    fn parse(line: &str) -> Result<PublicKey, KeyError> {
        line.parse()
    }

    fn body(line: &str) -> &str {
        line.split(' ').nth(1).unwrap()
    }

    fn encode(fields: &[&[u8]]) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend(*field);
        }
        let symbols = |chunk: &[u8]| {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            let symbol = |place: usize| char::from(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]);
            (0..4).map(|place| if place <= chunk.len() { symbol(place) } else { '=' }).collect::<String>()
        };
        bytes.chunks(3).map(symbols).collect()
    }

    #[test]
    fn a_key_is_read_as_a_line_or_alone() {
        let key = parse(ED25519).unwrap();
        assert_eq!(key.to_string(), ED25519);
        let alone = parse(body(ED25519)).unwrap();
        assert!(alone.is_same(&key));
        assert_eq!(format!("{alone} somebody@some where"), ED25519);
        assert_eq!(parse(&format!("  {}\t", ED25519.replace(' ', "  "))), Ok(key));
    }

    #[test]
    fn every_kind_that_the_server_knows_is_one() {
        for (kind, fields) in KINDS {
            let mut content = vec![kind.as_bytes()];
            content.extend(vec![&[7_u8; 32][..]; fields]);
            let line = format!("{kind} {}", encode(&content));
            assert_eq!(parse(&line).map(|key| key.to_string()), Ok(line.clone()), "{kind}");
            content.push(b"more");
            assert_eq!(parse(&encode(&content)), Err(KeyError::Broken), "{kind}");
        }
    }

    #[test]
    fn what_is_no_key_says_why() {
        let dss = encode(&[b"ssh-dss", b"p", b"q", b"g", b"y"]);
        let sized = |length: usize| encode(&[b"ssh-ed25519", &vec![1; length]]);
        for (line, error) in [
            (String::new(), KeyError::NoKey),
            ("   ".to_owned(), KeyError::NoKey),
            ("ssh-ed25519".to_owned(), KeyError::NoKey),
            ("id_ed25519.pub".to_owned(), KeyError::NoKey),
            ("from=\"192.0.2.1\" ".to_owned() + ED25519, KeyError::NoKey),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), KeyError::Private),
            (dss.clone(), KeyError::Kind),
            (format!("ssh-dss {dss}"), KeyError::Kind),
            (format!("ssh-foo {}", body(ED25519)), KeyError::Kind),
            (format!("ssh-rsa {}", body(ED25519)), KeyError::OtherKind),
            (ECDSA.to_owned(), KeyError::Broken),
            (format!("ssh-ed25519 {}", body(ED25519).replace('k', "-")), KeyError::Broken),
            (format!("{} \u{1b}[2J", body(ED25519)), KeyError::Broken),
            (format!("{}\nssh-rsa", body(ED25519)), KeyError::Broken),
            (sized(31), KeyError::Broken),
            (sized(33), KeyError::Broken),
            (encode(&[b"ssh-ed25519"]), KeyError::Broken),
            (encode(&[b"ssh-rsa", b"e", b""]), KeyError::Broken),
            ("A".repeat(KEY_MAX + 4), KeyError::Broken),
            // A name that is longer than what follows.
            ("AAAA/////w==".to_owned(), KeyError::Broken),
            ("AAAA".to_owned(), KeyError::Broken),
        ] {
            assert_eq!(parse(&line), Err(error), "{line}");
        }
    }

    #[test]
    fn no_part_of_a_key_is_taken_for_a_whole_one() {
        let whole = body(ED25519);
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_comment_has_an_end_and_only_characters_that_show() {
        let key = parse(&format!("{} ä\u{a0}b {}", body(ED25519), "x".repeat(1000))).unwrap();
        assert!(key.comment.starts_with("??b xxx"), "{key}");
        assert_eq!(key.comment.len(), COMMENT_MAX);
        // Written down and read again, it is the same one that is cut off at a space, too.
        let key = parse(&format!("{} {} me", body(ED25519), "x".repeat(COMMENT_MAX - 1))).unwrap();
        assert_eq!(parse(&key.to_string()), Ok(key));
    }

    #[test]
    fn keys_are_added_once_and_what_is_there_stays() {
        let add = |file: &str, lines: &[&str]| authorized_keys(file, lines.iter().copied());
        let file = format!("{ED25519}\n");
        assert_eq!(add("", &[ED25519, body(ED25519)]), Some(file.clone()));
        assert_eq!(add(&file, &[ED25519]), None);
        assert_eq!(add("", &[]), None);
        // What lets nobody in must not keep the password away.
        assert_eq!(add("", &["# a comment", &format!("# {ED25519}"), "ssh-rsa AAAAB3Nz me", ""]), None);
        let own = "# mine\n\nssh-rsa AAAAB3Nz me";
        let both = add(own, &[ED25519]).unwrap();
        assert_eq!(both, format!("{own}\n{file}"));
        assert_eq!(key_lines(&both).collect::<Vec<_>>(), [ED25519]);
        let restricted = format!("from=\"192.0.2.1\" {ED25519}");
        assert_eq!(add("", &[&restricted]), Some(format!("{restricted}\n")));
        assert_eq!(add(&restricted, &[ED25519]), None);
    }

    #[test]
    fn a_password_has_75_bits_in_symbols_that_are_told_apart() {
        assert_eq!(password(&[0; PASSWORD_SYMBOLS]), "aaaaa-aaaaa-aaaaa");
        let symbols: BTreeSet<u8> = SYMBOLS.iter().copied().collect();
        assert_eq!(symbols.len(), 32);
        assert!(symbols.iter().all(|symbol| !b"0o1lI|".contains(symbol) && symbol.is_ascii_alphanumeric()));
        // Each symbol stands for as many values of its byte, at every place.
        for place in 0..PASSWORD_SYMBOLS {
            let mut count = [0; 256];
            for byte in 0..=u8::MAX {
                let mut random = [0; PASSWORD_SYMBOLS];
                random[place] = byte;
                let password = password(&random);
                count[usize::from(password.as_bytes()[place + place / GROUP])] += 1;
            }
            assert!(SYMBOLS.iter().all(|symbol| count[usize::from(*symbol)] == 8));
        }
    }

    #[test]
    fn a_fingerprint_is_taken_from_what_dropbearkey_says() {
        let digest = "SHA256:6MnFtRkzpzKDxm8JpdCcXKuxdfNXUZWLzP9Jb2yiXEo";
        let said = format!("Public key portion is:\n{ED25519}\nFingerprint: {digest}\n");
        assert_eq!(fingerprint(&said), Some(digest));
        for said in ["", "Fingerprint: sha1 00:11\n", "Fingerprint: SHA256:\n", "Fingerprint: SHA256:\u{1b}[2J\n"] {
            assert_eq!(fingerprint(said), None, "{said}");
        }
    }
}
