//! Base64, as RFC 4648 section 4 has it.

/// The bytes that `text` stands for; white space in it counts for nothing. `None` if it is no Base64.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut symbols, mut padding) = (0_u32, 0_usize, 0_usize);
    for symbol in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        symbols += 1;
        bits = (bits << 6) | u32::from(value);
        match symbols % 4 {
            2 => bytes.push((bits >> 4).to_le_bytes()[0]),
            3 => bytes.push((bits >> 2).to_le_bytes()[0]),
            0 => bytes.push(bits.to_le_bytes()[0]),
            _ => {}
        }
    }
    ((symbols + padding) % 4 == 0 && padding <= 2).then_some(bytes)
}

/// The text of `bytes`, padded and in one line. It allocates once, so that whoever clears it clears all.
pub fn encode(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().zip([16, 8, 0]).fold(0, |bits, (byte, shift)| bits | usize::from(*byte) << shift);
        for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            text.push(if index > group.len() { '=' } else { char::from(SYMBOLS[bits >> shift & 63]) });
        }
    }
    text
}

/// The bytes that `text` stands for, as the SSH server reads a key: whatever is no symbol counts for
/// nothing, wherever it is (`base64_decode` of libtomcrypt). `None` if a symbol is left over.
pub fn decode_leniently(text: &[u8]) -> Option<Vec<u8>> {
    let is_symbol = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut symbols: Vec<u8> = text.iter().copied().filter(is_symbol).collect();
    if symbols.len() % 4 == 1 {
        return None;
    }
    symbols.resize(symbols.len().next_multiple_of(4), b'=');
    decode(&symbols)
}

#[cfg(test)]
mod tests {
    use super::{decode, decode_leniently, encode};

    #[test]
    fn the_servers_way_forgives_all_but_a_symbol_that_is_left_over() {
        for text in ["Zm9vYg==", "Zm9vYg", "Zm=9v\tYg=", "Zm9!vYh"] {
            assert_eq!(decode_leniently(text.as_bytes()).as_deref(), Some(&b"foob"[..]), "{text}");
        }
        assert_eq!(decode_leniently(b"Zm9vY"), None);
        assert_eq!(decode_leniently(b"").as_deref(), Some(&b""[..]));
    }

    #[test]
    fn every_length_is_decoded() {
        // RFC 4648 section 10.
        for (encoded, text) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\nYmFy\n", "foobar")] {
            assert_eq!(decode(encoded.as_bytes()).as_deref(), Some(text.as_bytes()), "{encoded}");
        }
        assert_eq!(decode(b"+/+/").as_deref(), Some(&[0xfb, 0xff, 0xbf][..]));
    }

    #[test]
    fn every_byte_is_encoded() {
        for (encoded, text) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")] {
            assert_eq!(encode(text.as_bytes()), encoded);
        }
        let bytes: Vec<u8> = (0..=255).collect();
        for end in 0..=bytes.len() {
            let text = encode(&bytes[..end]);
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(&bytes[..end]));
            assert_eq!(text.len(), text.capacity());
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["Z", "Zg", "Zg=", "Zg===", "====", "Zg==Zg==", "Zm9v!", "Zm-_"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
