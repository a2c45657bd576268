//! The lines that the SSH server is compared with, each with a key of its own.

/// A line of `authorized_keys`.
pub(crate) struct Row {
    /// Why it is here.
    pub(crate) what: &'static str,
    /// The line, without its end.
    pub(crate) line: Vec<u8>,
    /// The key in it, as a client's file `id_….pub` has it.
    pub(crate) key: String,
    /// Whether the server lets a client with that key in.
    pub(crate) admits: bool,
}

/// Lines with an Ed25519 key; `KIND` and `BODY` are its two words.
const LINES: [(&str, bool, &str); 56] = [
    ("as ssh-keygen writes it", true, "KIND BODY me@laptop"),
    ("without a comment", true, "KIND BODY"),
    ("two spaces behind the key", true, "KIND BODY  me"),
    ("a trailing space", true, "KIND BODY "),
    ("a trailing tab", true, "KIND BODY\t"),
    ("a comment with anything in it", true, "KIND BODY \u{e9}$(reboot) \"x"),
    ("a tab before the comment", false, "KIND BODY\tme"),
    ("two spaces before the key", false, "KIND  BODY me"),
    ("a tab before the key", false, "KIND\tBODY me"),
    ("a leading space", false, " KIND BODY me"),
    ("a leading tab", false, "\tKIND BODY me"),
    ("two leading spaces and a trailing one", false, "  KIND BODY "),
    ("a byte order mark", false, "\u{feff}KIND BODY me"),
    ("a form feed before it", false, "\u{c}KIND BODY me"),
    ("a comment", false, "# KIND BODY me"),
    ("a comment behind blanks", false, " \t#KIND BODY me"),
    ("only the key", false, "BODY"),
    ("the key before its kind", false, "BODY KIND"),
    ("quotation marks around it", false, "\"KIND BODY me\""),
    ("no space at all", false, "KINDBODY"),
    ("no padding, or too much of it", true, "KIND BODY=== me"),
    ("other characters in the key", true, "KIND !BODY-_. me"),
    ("one letter more in the key", false, "KIND BODYA me"),
    ("another kind before the key", false, "ssh-rsa BODY me"),
    ("a kind for signatures", false, "rsa-sha2-256 BODY me"),
    ("the kind in capitals", false, "SSH-ED25519 BODY me"),
    ("a certificate's kind", false, "ssh-ed25519-cert-v01@openssh.com BODY me"),
    ("a certificate authority", false, "cert-authority KIND BODY me"),
    ("an option", true, "restrict KIND BODY me"),
    ("options", true, "no-port-forwarding,no-pty,no-X11-forwarding,no-agent-forwarding KIND BODY me"),
    ("options in capitals", true, "NO-PTY,Restrict KIND BODY me"),
    ("options for security keys", true, "no-touch-required,verify-required KIND BODY me"),
    ("blanks before an option", true, " \t restrict KIND BODY me"),
    ("a tab behind an option", true, "restrict\tKIND BODY me"),
    ("two spaces behind an option", false, "restrict  KIND BODY me"),
    ("two spaces behind an option's kind", false, "restrict KIND  BODY me"),
    ("empty options", true, ",restrict,,no-pty, KIND BODY me"),
    ("an option with more behind its name", false, "no-pty2 KIND BODY me"),
    ("an option with a space behind its comma", false, "no-pty, restrict KIND BODY me"),
    ("an option of OpenSSH: from", false, "from=\"10.0.0.0/8\" KIND BODY me"),
    ("an option of OpenSSH: no-user-rc", false, "no-user-rc KIND BODY me"),
    ("an option of OpenSSH: environment", false, "restrict,environment=\"A=b\" KIND BODY me"),
    ("an option of OpenSSH: pty", false, "restrict,pty KIND BODY me"),
    ("an option of OpenSSH: expiry-time", false, "expiry-time=\"20990101\" KIND BODY me"),
    ("a command with spaces", true, "command=\"diskomator export list\" KIND BODY me"),
    ("a command with commas", true, "command=\"echo a,b\",no-pty KIND BODY me"),
    ("a command with two quotation marks", true, "command=\"echo\\\"a\\\"\" KIND BODY me"),
    ("a command with one quotation mark", false, "command=\"echo\\\"a\" KIND BODY me"),
    ("a command with a space between quotation marks", false, "command=\"echo \\\"a b\\\"\" KIND BODY me"),
    ("two commands", false, "command=\"a\",command=\"b\" KIND BODY me"),
    ("a command without its end", false, "command=\"a KIND BODY me"),
    ("a command without quotation marks", false, "command=a KIND BODY me"),
    ("a way to other machines", true, "permitopen=\"192.0.2.1:22\",permitopen=\"[2001:db8::1]:*\" KIND BODY me"),
    ("a way to other machines without a port", false, "permitopen=\"192.0.2.1\" KIND BODY me"),
    ("a port to listen on", true, "permitlisten=\"8080\" KIND BODY me"),
    ("a port with an address to listen on", false, "permitlisten=\"localhost:8080\" KIND BODY me"),
];

/// Keys of other kinds, made for this table; nobody has the other halves.
const KEYS: [(&str, &str); 5] = [
    (
        "ecdsa-sha2-nistp256",
        "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJ0MVqW8FHyJO6fCfXGTiJKLlu4BqnuPNAkQnDI9jkYyuYWu05J0\
         +rGIX2TVXK/nKXcWhtSpkVY3C6p26dhBMRM=",
    ),
    (
        "ecdsa-sha2-nistp384",
        "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBJ3q41BQJh1+xeR+OSRnB8hJBQtZ9HcSJnJDZPZmC3h2TW3HpHm5\
         EXKUMmpPDj3iOoFOrwjoN4Hj8d4nUcFRlBLNOPi1XU9lzZB7h7lY7lR+mdJGpDShMS0NOMeflZoLeg==",
    ),
    (
        "ecdsa-sha2-nistp521",
        "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBACydnrS0Uq+zlqyNtRIJTUabw5CbcFWhlWCFaOXSQaqklX18Gjh\
         UnpMyIzn6Nx2ExSgnlK2qSRfMZhLTCbHe4AR6gGQjovf6XPTBadoRTBPQsW/bwD5K6UEvrX1FTgWLmUr6F6+VSOBdYzBGnv1zs9ALTF/\
         QXCPWk3VhjGyU0baPhxjWg==",
    ),
    (
        "ssh-rsa",
        "AAAAB3NzaC1yc2EAAAADAQABAAAAgQCTf0sOJ5X6qLTRcYAXaIyAUJdi6tbwqnnA59Ofo6p8CZyCJOmp7zBtHdppt8r6Z0J974m4e4NZ\
         giRxdAz+6RA0cxjpQtC/5gGmn6wpd1aNoWYHiVy/IknIio/4SrYxLy2pMBwhSqTG1KpQbQUrIQ3GQY+iWYOhy4tSXGIO5Ioonw==",
    ),
    (
        "sk-ssh-ed25519@openssh.com",
        "AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIPTieeOahYpIc1k51z8c+bnJwVufabnRUm1aIozGQnXlAAAABHNzaDo=",
    ),
];

/// Every line, each with a key that no other has.
pub(crate) fn rows() -> Vec<Row> {
    let lines = (1..).zip(LINES).map(|(number, (what, admits, line))| {
        let (kind, body) = ("ssh-ed25519", ed25519(number));
        Row {
            what,
            line: line.replace("KIND", kind).replace("BODY", &body).into_bytes(),
            key: format!("{kind} {body}"),
            admits,
        }
    });
    let others = KEYS.iter().map(|(kind, body)| {
        let key = format!("{kind} {body}");
        Row { what: kind, line: key.clone().into_bytes(), key, admits: true }
    });
    let (zero, long, blank) = (ed25519(100), ed25519(101), ed25519(102));
    let odd = [
        ("a zero byte", format!("ssh-ed25519 {zero} \0"), zero),
        ("a line that is too long", format!("ssh-ed25519 {long} {}", "x".repeat(3000)), long),
        // The unpatched server ends the session here, for each key that is not in a line before (see its patches).
        ("a comment of blanks alone", " \t".repeat(40), blank),
    ];
    let odd = odd.into_iter().map(|(what, line, body)| Row {
        what,
        line: line.into_bytes(),
        key: format!("ssh-ed25519 {body}"),
        admits: false,
    });
    // The odd lines come first: the server must go on behind them.
    odd.chain(lines).chain(others).collect()
}

/// The second word of an Ed25519 key, of RFC 8709 section 4, whose 32 bytes are all `number`.
fn ed25519(number: u8) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = [b"\0\0\0\x0bssh-ed25519\0\0\0\x20", &[number; 32][..]].concat();
    let symbols = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift) as usize & 63]))
    };
    // 51 bytes are 68 symbols.
    bytes.chunks(3).flat_map(symbols).collect()
}
