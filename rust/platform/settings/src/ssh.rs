//! Access by SSH: public keys, and a password that is good once.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::base64;

/// The value of the setting `ssh`: whether the machine listens for SSH, and the keys that it admits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// It listens.
    pub is_on: bool,
    /// The keys that are admitted, beside those that are given elsewhere.
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

/// The kinds of keys that the server knows, as `board/common/dropbear.h` builds it, each with
/// the fields that follow its name in the key itself (RFC 8709 section 4; RFC 5656 section 3.1;
/// RFC 4253 section 6.6; OpenSSH's `PROTOCOL.u2f`).
const KINDS: [(&str, &[Field]); 7] = [
    ("ssh-ed25519", &[Field::Curve25519]),
    ("ecdsa-sha2-nistp256", &[Field::Name("nistp256"), Field::Point(32)]),
    ("ecdsa-sha2-nistp384", &[Field::Name("nistp384"), Field::Point(48)]),
    ("ecdsa-sha2-nistp521", &[Field::Name("nistp521"), Field::Point(66)]),
    ("ssh-rsa", &[Field::Exponent, Field::Modulus]),
    ("sk-ssh-ed25519@openssh.com", &[Field::Curve25519, Field::Application]),
    ("sk-ecdsa-sha2-nistp256@openssh.com", &[Field::Name("nistp256"), Field::Point(32), Field::Application]),
];

/// A field of a key.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// 32 bytes.
    Curve25519,
    /// The curve's name.
    Name(&'static str),
    /// Two coordinates of so many bytes, not compressed, as the server knows no other form.
    Point(usize),
    /// An `mpint` of up to 64 bits (`buf_get_rsa_pub_key` in dropbear's `rsa.c`).
    Exponent,
    /// An `mpint` of as many bits as the server takes.
    Modulus,
    /// Any text.
    Application,
}

/// Bits of an RSA key: `MIN_RSA_KEYLEN` and `BUF_MAX_MPINT` of dropbear.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=8240;

/// Longer keys are none: 8240 bits of RSA have 1.4 KB.
const KEY_MAX: usize = 2048;
/// The most that is kept of a comment, in characters.
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
    /// A private key must never leave its owner's machine.
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
    /// The server takes no RSA key of this size.
    #[error("an RSA key must have {} to {} bits here", RSA_BITS.start(), RSA_BITS.end())]
    Size,
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
        let kind = kind_of(named.map(str::as_bytes), &bytes)?;
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

/// The kind of the key in `bytes`, which are all of one that a client can have; `named` is the
/// name that stands before it. A client sends its key in one form only, and the server compares
/// bytes (`cmp_base64_key` in dropbear's `signkey.c`): other forms of the same numbers let nobody in.
fn kind_of(named: Option<&[u8]>, bytes: &[u8]) -> Result<&'static str, KeyError> {
    let (kind, mut rest) = string(bytes).ok_or(KeyError::Broken)?;
    let known = KINDS.into_iter().find(|(known, _)| known.as_bytes() == kind);
    if named.is_some_and(|named| named != kind) {
        // Of a kind that nobody knows it is more likely that than a mistake.
        let is_known = KINDS.iter().any(|(known, _)| Some(known.as_bytes()) == named);
        return Err(if is_known { KeyError::OtherKind } else { KeyError::Kind });
    }
    let (kind, fields) = known.ok_or(KeyError::Kind)?;
    for field in fields {
        let (value, after) = string(rest).ok_or(KeyError::Broken)?;
        let is_whole = match field {
            Field::Curve25519 => value.len() == 32,
            Field::Name(name) => value == name.as_bytes(),
            Field::Point(size) => value.len() == 1 + 2 * size && value.first() == Some(&4),
            Field::Exponent => bits(value).is_some_and(|bits| (1..=64).contains(&bits)),
            Field::Modulus => match bits(value) {
                Some(bits) if !RSA_BITS.contains(&bits) => return Err(KeyError::Size),
                bits => bits.is_some(),
            },
            Field::Application => true,
        };
        if !is_whole {
            return Err(KeyError::Broken);
        }
        rest = after;
    }
    if rest.is_empty() { Ok(kind) } else { Err(KeyError::Broken) }
}

/// A `string` of RFC 4251 section 5, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// How many bits a positive `mpint` of RFC 4251 section 5 has, in its one form.
fn bits(value: &[u8]) -> Option<usize> {
    let number = match value {
        [0, number @ ..] if number.first().is_some_and(|byte| *byte >= 0x80) => number,
        [1..=0x7f, ..] => value,
        _ => return None,
    };
    let first = number.first()?;
    Some(number.len() * 8 - usize::try_from(first.leading_zeros()).ok()?)
}

/// The longest line that the server reads, in bytes (`MAX_AUTHKEYS_LINE` of dropbear's `svr-authpubkey.c`).
const LINE_MAX: usize = 3000;
/// A line of so many bytes ends the file for it (`DROPBEAR_MAX_LINE_LENGTH`; `buf_getline` in `dbutil.c`),
const LINE_END: usize = 10_000;
/// and so many lines do (`MAX_AUTHKEYS_LINE_COUNT`).
const LINES_MAX: usize = 300;

/// Why the server lets nobody in for a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Nothing in it looks like a key.
    #[error("there is no public key in it, such as \"ssh-ed25519 AAAA…\"")]
    NoKey,
    /// There is something else wrong with the key.
    #[error(transparent)]
    Key(KeyError),
    /// Other programs may know the option.
    #[error("the server does not take the option {0}")]
    Option(String),
    /// Between options, kind and key there is something else than one space.
    #[error("before the key there is something else than its kind and one space")]
    Space,
    /// The mark of a text file on Windows.
    #[error("a byte order mark stands before it")]
    Mark,
    /// Such as in a file in UTF-16.
    #[error("it is not plain text")]
    NoText,
    /// Longer than [`LINE_MAX`].
    #[error("it has more than {LINE_MAX} bytes")]
    Long,
    /// Behind [`LINE_END`].
    #[error("the server reads no line from one of {LINE_END} bytes on")]
    BehindLong,
    /// Behind [`LINES_MAX`].
    #[error("the server reads no more than {LINES_MAX} lines, and counts one that ends as on Windows twice")]
    Late,
}

/// A line of a file `authorized_keys`, as the server takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// As an editor counts, from 1.
    pub number: usize,
    /// Without its end.
    pub text: &'a [u8],
    /// The key that it lets in; `None` for an empty line and a comment.
    pub key: Result<Option<Vec<u8>>, LineError>,
}

/// The lines of a file `authorized_keys`. A line counts if and only if the server takes it:
/// `checkpubkey` and `checkpubkey_line` of dropbear's `svr-authpubkey.c`, which
/// `tests/authorized_keys.rs` is compared with.
pub fn lines(file: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let (mut rest, mut number, mut read, mut is_over) = (Some(file), 0, 0, false);
    std::iter::from_fn(move || {
        let text = rest?;
        if text.is_empty() {
            return None;
        }
        let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(text.len());
        let (line, after) = text.split_at(end);
        // To the server each of the two bytes ends a line.
        let ends = if after.starts_with(b"\r\n") { 2 } else { 1 };
        rest = after.get(ends..);
        (number, read) = (number + 1, read + 1);
        is_over |= line.len() >= LINE_END;
        let key = match key_in(line) {
            Ok(Some(_)) if is_over => Err(LineError::BehindLong),
            Ok(Some(_)) if read > LINES_MAX => Err(LineError::Late),
            key => key,
        };
        read += ends - 1;
        Some(Line { number, text: line, key })
    })
}

/// The key in a line, as `checkpubkey_line` finds it.
fn key_in(line: &[u8]) -> Result<Option<Vec<u8>>, LineError> {
    let text = without_blanks(line);
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(None);
    }
    if line.len() > LINE_MAX {
        return Err(LineError::Long);
    }
    if line.contains(&0) {
        return Err(LineError::NoText);
    }
    let kind_at = |text: &[u8]| KINDS.iter().map(|(kind, _)| kind.as_bytes()).find(|kind| text.starts_with(kind));
    let (options, rest) = if kind_at(line).is_some() { (&[][..], line) } else { split_options(text) };
    let key = kind_at(rest).and_then(|kind| Some((kind, rest.strip_prefix(kind)?.strip_prefix(b" ")?)));
    let Some((kind, rest)) = key else { return Err(misplaced(line)) };
    let body = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
    if body.is_empty() {
        return Err(misplaced(line));
    }
    let key = base64::decode_leniently(body).ok_or(LineError::Key(KeyError::Broken))?;
    kind_of(Some(kind), &key).map_err(LineError::Key)?;
    check_options(options)?;
    Ok(Some(key))
}

/// From the first byte on that is no blank.
fn without_blanks(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
    start.and_then(|start| line.get(start..)).unwrap_or_default()
}

/// The most likely fault of a line whose key is not where the server looks for it.
fn misplaced(line: &[u8]) -> LineError {
    if line.starts_with(&[0xef, 0xbb, 0xbf]) {
        return LineError::Mark;
    }
    let words = || line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    if line.windows(11).any(|window| window == b"PRIVATE KEY") {
        return LineError::Key(KeyError::Private);
    }
    let is_key = |word: &[u8]| {
        word.starts_with(b"AAAA") && base64::decode_leniently(word).is_some_and(|key| kind_of(None, &key).is_ok())
    };
    let is_kind = |word: &[u8]| KINDS.iter().any(|(kind, _)| kind.as_bytes() == word);
    match (words().any(is_key), words().find(|word| word.starts_with(b"AAAA"))) {
        (true, _) if words().any(is_kind) => {
            let (options, _) = split_options(without_blanks(line));
            if is_kind(options) { LineError::Space } else { check_options(options).err().unwrap_or(LineError::Space) }
        }
        (true, _) => LineError::Space,
        (false, Some(key)) => match base64::decode_leniently(key).map(|key| kind_of(None, &key)) {
            Some(Err(error)) => LineError::Key(error),
            _ => LineError::Key(KeyError::Broken),
        },
        (false, None) => LineError::NoKey,
    }
}

/// The options that stand before the kind, and what follows the space after them.
fn split_options(text: &[u8]) -> (&[u8], &[u8]) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = text.iter().position(|byte| {
        if !is_quoted && matches!(byte, b' ' | b'\t') {
            return true;
        }
        is_escaped = !is_escaped && *byte == b'\\';
        is_quoted ^= !is_escaped && *byte == b'"';
        false
    });
    let (options, rest) = text.split_at(end.unwrap_or(text.len()));
    (options, rest.get(1..).unwrap_or_default())
}

/// Options without a value that the server knows (`svr_parse_pubkey_options` in dropbear's
/// `svr-authpubkeyoptions.c`).
const FLAGS: [&str; 7] = [
    "no-port-forwarding",
    "no-agent-forwarding",
    "no-x11-forwarding",
    "no-pty",
    "restrict",
    "no-touch-required",
    "verify-required",
];

/// The same as that function, which forgives empty options and upper case.
fn check_options(options: &[u8]) -> Result<(), LineError> {
    let after = |text: &[u8], name: &str| {
        let (start, rest) = text.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name.as_bytes()).then_some(rest.len())
    };
    let from = |length: usize| options.get(options.len() - length..).unwrap_or_default();
    let (mut rest, mut has_command) = (options, false);
    while !rest.is_empty() {
        let refused = || {
            let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            let option = String::from_utf8_lossy(rest.get(..end.min(40)).unwrap_or_default());
            LineError::Option(option.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect())
        };
        let behind = if let Some(left) = FLAGS.iter().find_map(|name| after(rest, name)) {
            from(left)
        } else if let Some(left) = after(rest, "command=\"") {
            let (_, behind) = quoted(from(left), true).filter(|_| !has_command).ok_or_else(refused)?;
            has_command = true;
            behind
        } else if let Some(left) = after(rest, "permitopen=\"") {
            let (value, behind) = quoted(from(left), false).ok_or_else(refused)?;
            if !is_destination(value) {
                return Err(refused());
            }
            behind
        } else if let Some(left) = after(rest, "permitlisten=\"") {
            let (value, behind) = quoted(from(left), false).ok_or_else(refused)?;
            if !is_port(value) {
                return Err(refused());
            }
            behind
        } else {
            rest
        };
        rest = match behind.split_first() {
            Some((b',', behind)) => behind,
            None => behind,
            Some(_) => return Err(refused()),
        };
    }
    Ok(())
}

/// The text before the next quotation mark, and the text after it.
fn quoted(text: &[u8], has_escapes: bool) -> Option<(&[u8], &[u8])> {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = has_escapes && !is_escaped && *byte == b'\\';
        is_end
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// `host:port` or `[host]:port`, as `split_address_port` of dropbear's `dbutil.c` has it; the port may be `*`.
fn is_destination(text: &[u8]) -> bool {
    let parts = match text.strip_prefix(b"[") {
        Some(rest) => rest.iter().position(|byte| *byte == b']').and_then(|end| {
            let port = rest.get(end + 1..)?.strip_prefix(b":")?;
            Some((rest.get(..end)?, port))
        }),
        None => {
            text.iter().rposition(|byte| *byte == b':').and_then(|end| Some((text.get(..end)?, text.get(end + 1..)?)))
        }
    };
    parts.is_some_and(|(host, port)| !host.is_empty() && (port == b"*" || is_port(port)))
}

/// A number as `strtoul(3)` reads it, up to 65535.
fn is_port(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"+").or(text.strip_prefix(b"-")).unwrap_or(text);
    let number = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse::<u64>().ok());
    let number = number.map(|number| if text.starts_with(b"-") { number.wrapping_neg() } else { number });
    number.is_some_and(|number| number <= 65535)
}

/// The number of keys that admit a user, each counted once.
pub fn count_keys(file: &[u8]) -> usize {
    keys(file).collect::<BTreeSet<_>>().len()
}

fn keys(file: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    lines(file).filter_map(|line| line.key.ok().flatten())
}

/// The lines of a file that let nobody in and are no comments, with their numbers.
pub fn refused(file: &[u8]) -> impl Iterator<Item = (usize, LineError)> {
    lines(file).filter_map(|line| Some((line.number, line.key.err()?)))
}

/// The file `authorized_keys` with the keys of `given` in it, too, which are files of that kind;
/// `None` if they are there. The lines that it has already stay.
pub fn authorized_keys<'a>(file: &[u8], given: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut known: BTreeSet<Vec<u8>> = keys(file).collect();
    let mut text = file.trim_ascii_end().to_vec();
    let before = text.len();
    for line in given.into_iter().flat_map(lines) {
        let Ok(Some(key)) = line.key else { continue };
        if known.insert(key) {
            if !text.is_empty() {
                text.push(b'\n');
            }
            text.extend(line.text);
        }
    }
    if text.len() == before {
        return None;
    }
    text.push(b'\n');
    Some(text)
}

/// Letters and digits that nobody takes for one another: no l, o, 0 or 1.
const SYMBOLS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// With five bits each, 75 together.
pub const PASSWORD_SYMBOLS: usize = 15;
/// The number of letters that a person reads at one go.
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
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPVJlQV3uvuRQk/WwZlRqW84R54QqMaRcbUIjDI28UBs someone@some where";
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
        assert_eq!(format!("{alone} someone@some where"), ED25519);
        assert_eq!(parse(&format!("  {}\t", ED25519.replace(' ', "  "))), Ok(key));
    }

    /// A key of a kind, with numbers that nobody has the other half of.
    fn made(kind: &str, rsa_bits: usize) -> Vec<Vec<u8>> {
        let (_, fields) = KINDS.into_iter().find(|(known, _)| *known == kind).unwrap();
        let value = |field: &Field| match field {
            Field::Curve25519 => vec![7; 32],
            Field::Name(name) => name.as_bytes().to_vec(),
            Field::Point(size) => [vec![4], vec![7; 2 * size]].concat(),
            Field::Exponent => vec![1, 0, 1],
            Field::Modulus if rsa_bits % 8 == 0 => [vec![0, 0x80], vec![1; rsa_bits / 8 - 1]].concat(),
            Field::Modulus => [vec![1 << (rsa_bits % 8 - 1)], vec![1; rsa_bits / 8]].concat(),
            Field::Application => b"ssh:".to_vec(),
        };
        [vec![kind.as_bytes().to_vec()], fields.iter().map(value).collect()].concat()
    }

    fn encoded(fields: &[Vec<u8>]) -> String {
        encode(&fields.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn every_kind_that_the_server_knows_is_one() {
        for (kind, fields) in KINDS {
            let whole = made(kind, 2048);
            let line = format!("{kind} {}", encoded(&whole));
            assert_eq!(parse(&line).map(|key| key.to_string()), Ok(line.clone()), "{kind}");
            assert_eq!(count_keys(line.as_bytes()), 1, "{kind}");
            assert_eq!(
                parse(&encoded(&[whole.clone(), vec![b"more".to_vec()]].concat())),
                Err(KeyError::Broken),
                "{kind}"
            );
            for number in 1..=fields.len() {
                assert_eq!(parse(&encoded(&whole[..number])), Err(KeyError::Broken), "{kind}");
                let mut other = whole.clone();
                other[number].push(0);
                let is_same = matches!(fields[number - 1], Field::Application | Field::Exponent | Field::Modulus);
                assert_eq!(parse(&encoded(&other)).is_ok(), is_same, "{kind} {number}");
            }
        }
    }

    #[test]
    fn rsa_keys_of_a_size_that_the_server_refuses_do_not_count() {
        for (bits, is_taken) in
            [(512, false), (1023, false), (1024, true), (4096, true), (8240, true), (8241, false), (16384, false)]
        {
            let body = encoded(&made("ssh-rsa", bits));
            let error = if body.len() > KEY_MAX { KeyError::Broken } else { KeyError::Size };
            assert_eq!(parse(&body).map(|_| ()), if is_taken { Ok(()) } else { Err(error) }, "{bits}");
            let line = format!("ssh-rsa {body}");
            assert_eq!(count_keys(line.as_bytes()), usize::from(is_taken), "{bits}");
        }
        // One number has one form only; clients send no other, and the server compares bytes.
        let with = |modulus: Vec<u8>| encoded(&[b"ssh-rsa".to_vec(), vec![1, 0, 1], modulus]);
        assert_eq!(parse(&with([vec![0], vec![1; 256]].concat())), Err(KeyError::Broken));
        assert_eq!(parse(&with(vec![0x80; 256])), Err(KeyError::Broken));
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
        let add = |file: &str, lines: &[&str]| {
            let both = authorized_keys(file.as_bytes(), lines.iter().map(|line| line.as_bytes()));
            both.map(|both| String::from_utf8(both).unwrap())
        };
        let file = format!("{ED25519}\n");
        assert_eq!(add("", &[ED25519, ED25519]), Some(file.clone()));
        assert_eq!(add(&file, &[ED25519]), None);
        assert_eq!(add("", &[]), None);
        // A line that admits nobody must not keep the password away.
        assert_eq!(add("", &["# a comment", &format!("# {ED25519}"), "ssh-rsa AAAAB3Nz me", "", body(ED25519)]), None);
        let own = "# mine\n\nssh-rsa AAAAB3Nz me";
        let both = add(own, &[ED25519]).unwrap();
        assert_eq!(both, format!("{own}\n{file}"));
        assert_eq!(count_keys(both.as_bytes()), 1);
        // A line that the server refuses is no reason to leave the key out.
        let refused = format!("from=\"192.0.2.1\" {ED25519}");
        assert_eq!(add("", &[&refused]), None);
        assert_eq!(add(&refused, &[ED25519]), Some(format!("{refused}\n{file}")));
        let restricted = format!("restrict {ED25519}");
        assert_eq!(add(&restricted, &[ED25519]), None);
        assert_eq!(add("", &[&format!("# Windows\r\n{ED25519}\r\n")]), Some(file));
    }

    #[test]
    fn a_line_that_is_refused_says_where_it_is_and_why() {
        let file = format!(
            "\u{feff}{ED25519}\r\n\r\n# comment\n  {ED25519}\nno-user-rc,restrict {ED25519}\nhello\r{ED25519}\nssh-dss AAAAB3NzaC1kc3M= me\n\
             ssh-rsa {}\n-----BEGIN OPENSSH PRIVATE KEY-----",
            body(ED25519)
        );
        let found: Vec<(usize, LineError)> = refused(file.as_bytes()).collect();
        assert_eq!(
            found,
            [
                (1, LineError::Mark),
                (4, LineError::Space),
                (5, LineError::Option("no-user-rc".to_owned())),
                (6, LineError::NoKey),
                (8, LineError::Key(KeyError::Kind)),
                (9, LineError::Key(KeyError::OtherKind)),
                (10, LineError::Key(KeyError::Private)),
            ]
        );
        assert_eq!(count_keys(file.as_bytes()), 1);
    }

    #[test]
    fn keys_behind_the_end_that_the_server_sees_do_not_count() {
        let after = |before: &str| count_keys(format!("{before}{ED25519}\n").as_bytes());
        assert_eq!(after(&"#\n".repeat(299)), 1);
        assert_eq!(after(&"#\n".repeat(300)), 0);
        assert_eq!(after(&"#\r\n".repeat(149)), 1);
        assert_eq!(after(&"#\r\n".repeat(150)), 0);
        assert_eq!(after(&format!("#{}\n", "x".repeat(9998))), 1);
        assert_eq!(after(&format!("#{}\n", "x".repeat(9999))), 0);
        let padded = |length: usize| format!("{ED25519}{}", "x".repeat(length - ED25519.len()));
        assert_eq!(count_keys(padded(3000).as_bytes()), 1);
        assert_eq!(refused(padded(3001).as_bytes()).collect::<Vec<_>>(), [(1, LineError::Long)]);
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
