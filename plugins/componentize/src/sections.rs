//! Custom sections of WebAssembly's binary format (core specification 5.5): reading those of a module, adding to a component.

const CUSTOM: u8 = 0;
const HEADER: usize = 8;

/// Names and contents of the custom sections. Ends at whatever is not a section; the encoder has validated the module.
pub(crate) fn custom(module: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let mut rest = module.get(HEADER..).unwrap_or_default();
    let sections = std::iter::from_fn(move || {
        let (&id, after_id) = rest.split_first()?;
        let (len, after_len) = read_u32(after_id)?;
        let (body, after) = after_len.split_at_checked(len)?;
        rest = after;
        Some((id, body))
    });
    sections.filter(|(id, _)| *id == CUSTOM).filter_map(|(_, body)| {
        let (len, rest) = read_u32(body)?;
        let (name, content) = rest.split_at_checked(len)?;
        Some((std::str::from_utf8(name).ok()?, content))
    })
}

/// Adds a custom section at the end.
pub(crate) fn append(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = Vec::with_capacity(name.len() + content.len() + 5);
    write_len(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    component.push(CUSTOM);
    write_len(component, body.len());
    component.extend_from_slice(&body);
}

/// An unsigned LEB128 number of at most 32 bits, and what follows it.
fn read_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn write_len(out: &mut Vec<u8>, mut len: usize) {
    while len > 0x7f {
        out.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        append(&mut module, "corymb:name", b"flowers");
        module.extend_from_slice(&[5, 3, 1, 0, 0]);
        append(&mut module, "long", &[7; 300]);
        let found: Vec<_> = custom(&module).collect();
        assert_eq!(found, [("corymb:name", &b"flowers"[..]), ("long", &[7; 300][..])]);

        module.truncate(module.len() - 1);
        assert_eq!(custom(&module).count(), 1);
    }
}
