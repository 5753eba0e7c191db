//! Packets that real clients sent, kept in `tests/fixtures/mqtt`, and what chance makes of them.

use std::path::Path;

use super::{Credential, Seeded, credential, packet};

/// What one client sends in one version; the first packet is its CONNECT.
pub(in crate::broker) struct Conversation {
    pub(in crate::broker) packets: Vec<Vec<u8>>,
}

impl Conversation {
    /// Its first packet of these kinds, if it sent one.
    pub(super) fn first(&self, kinds: &[u8]) -> &[u8] {
        let found = self.packets.iter().find(|bytes| kinds.contains(&bytes[0]));
        found.map_or(&[], |bytes| bytes)
    }
}

/// Every file of the folder: one that once broke the broker is kept by adding it.
pub(in crate::broker) fn corpus() -> Vec<Conversation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/mqtt");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let read = |file| {
        let text = std::fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let packets = lines.map(bytes_of).collect();
        Conversation { packets }
    };
    files.iter().map(read).collect()
}

fn bytes_of(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The log-in of every conversation.
pub(super) fn their_credential() -> Credential {
    let secret = "f1f7296b8f4159e5676dcc1b8d5efbc6";
    credential("btn-hall", secret, true, &["antuo/v1/btn-hall/#"])
}

/// A packet with one to three changes, most often with a Remaining Length that fits it again.
pub(super) fn mutated(seeded: &mut Seeded, sound: &[u8], other: &[u8]) -> Vec<u8> {
    let refit = seeded.below(4) > 0 && sound.len() < 130;
    let head = if refit { 2.min(sound.len()) } else { 0 };
    let mut bytes = sound[head..].to_vec();
    for _ in 0..=seeded.below(3) {
        let at = seeded.below(bytes.len() + 1);
        let byte = seeded.next() as u8;
        match seeded.below(6) {
            0 => bytes.insert(at, byte),
            // Small numbers are lengths and identifiers.
            1 => bytes.insert(at, byte % 48),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_slice(&other[seeded.below(other.len())..]),
            4 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            _ if at < bytes.len() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    if refit {
        packet(sound[0], &bytes)
    } else {
        bytes
    }
}
