//! What a certificate says that its key is for, as far as webpki does not look at it.
//!
//! Tags and fields are those of RFC 5280, section 4.1.

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
/// `[3]`, the extensions of a certificate.
const EXTENSIONS: u8 = 0xa3;
/// id-ce-keyUsage, 2.5.29.15.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// id-ce-extKeyUsage, 2.5.29.37.
const PURPOSES: &[u8] = &[0x55, 0x1d, 0x25];
/// The first bit of a `KeyUsage`.
const DIGITAL_SIGNATURE: u8 = 0x80;

/// What a certificate says of the use of its key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Whether it may make signatures, where that is said.
    pub(super) digital_signature: Option<bool>,
    /// Whether purposes are named; webpki looks at which.
    pub(super) has_purposes: bool,
}

/// # Errors
/// When it is not DER.
pub(super) fn usage(certificate: &[u8]) -> Result<Usage, String> {
    read(certificate).ok_or_else(|| "the signer's certificate is malformed".to_owned())
}

fn read(certificate: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut signed = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    while let Some((tag, content)) = signed.next()? {
        if tag != EXTENSIONS {
            continue;
        }
        let mut extensions = Der(Der(content).expect(SEQUENCE)?);
        while let Some((_, extension)) = extensions.next()? {
            let mut extension = Der(extension);
            let object = extension.expect(OBJECT)?;
            usage.has_purposes |= object == PURPOSES;
            if object != KEY_USAGE {
                continue;
            }
            let (mut tag, mut value) = extension.next()??;
            if tag == BOOLEAN {
                (tag, value) = extension.next()??;
            }
            let bits = Der((tag == OCTET_STRING).then_some(value)?).expect(BIT_STRING)?;
            // The first byte counts the bits of the last that are not used.
            usage.digital_signature = Some(bits.get(1).is_some_and(|bits| bits & DIGITAL_SIGNATURE != 0));
        }
    }
    Some(usage)
}

/// What is left of a message in DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        let (tag, content) = self.next()??;
        (tag == wanted).then_some(content)
    }

    /// The next tag and its content; inside, none at the end; outside, none where it is malformed.
    #[expect(clippy::option_option, reason = "the end is no mistake")]
    fn next(&mut self) -> Option<Option<(u8, &'a [u8])>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // So many bytes of length; a certificate is never as long as needs more than three.
            let bytes = rest.get(..usize::from(first & 0x7f)).filter(|bytes| (1..=3).contains(&bytes.len()))?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = &rest[bytes.len()..];
        }
        let content = rest.get(..length)?;
        self.0 = &rest[length..];
        Some(Some((tag, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_malformed_and_no_more() {
        for bytes in [&b""[..], &[0x30], &[0x30, 0x82], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 2, 0x30, 9]] {
            assert!(usage(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(usage(&[0x30, 2, 0x30, 0]), Ok(Usage::default()));
    }
}
