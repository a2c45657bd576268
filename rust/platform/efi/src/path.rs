//! Device paths (10.3): the place of a file, from the machine's buses down to its name.

use crate::bytes::{double, from_text, text, word};
use crate::partition::{Partition, Signature};

/// The length of a node's head: its type, its subtype and its length.
const HEAD: usize = 4;
const MEDIA: u8 = 4;
const END: u8 = 0x7f;
const HARD_DRIVE: u8 = 1;
const FILE: u8 = 4;
const ENTIRE: u8 = 0xff;

/// A device path, without its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Node>);

/// A node of a device path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A partition.
    HardDrive(HardDrive),
    /// A file, or a part of its name.
    File(String),
    /// Any other node.
    Other {
        /// Its type.
        kind: u8,
        /// Its subtype.
        subkind: u8,
        /// What follows.
        data: Vec<u8>,
    },
}

/// A partition as a node has it (10.3.5.1). Its signature tells it from all others; the firmware looks for it on each
/// disk where the node is the first one of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardDrive {
    /// The partition.
    pub partition: Partition,
    /// How the table is made: 1 is an MBR, 2 a GPT.
    format: u8,
    /// Of what kind the signature is, with its 16 bytes, where it is none that this crate knows.
    signature: (u8, [u8; 16]),
}

impl HardDrive {
    /// The node of a partition.
    pub fn new(partition: Partition) -> Self {
        let (format, signature) = match partition.signature {
            Signature::Guid(guid) => (2, (2, guid)),
            Signature::Mbr(number) => {
                let mut bytes = [0; 16];
                bytes.iter_mut().zip(number).for_each(|(to, from)| *to = from);
                (1, (1, bytes))
            }
            Signature::None => (1, (0, [0; 16])),
        };
        Self { partition, format, signature }
    }

    /// The node after its head.
    fn parse(data: &[u8]) -> Option<Self> {
        let bytes: [u8; 16] = data.get(20..36)?.try_into().ok()?;
        let [format, kind]: [u8; 2] = data.get(36..)?.try_into().ok()?;
        let signature = match (kind, bytes) {
            (2, guid) => Signature::Guid(guid),
            (1, [a, b, c, d, ..]) => Signature::Mbr([a, b, c, d]),
            _ => Signature::None,
        };
        let partition =
            Partition { number: word(data, 0)?, start: double(data, 4)?, blocks: double(data, 12)?, signature };
        Some(Self { partition, format, signature: (kind, bytes) })
    }

    fn data(&self) -> Vec<u8> {
        let mut data = self.partition.number.to_le_bytes().to_vec();
        data.extend(self.partition.start.to_le_bytes());
        data.extend(self.partition.blocks.to_le_bytes());
        data.extend(self.signature.1);
        data.extend([self.format, self.signature.0]);
        data
    }
}

impl Path {
    /// The first path of a list (3.1.3: those after it are for the loader); `None` if it does not end, or a node is
    /// longer than the list.
    pub fn parse(mut list: &[u8]) -> Option<Self> {
        let mut nodes = Vec::new();
        loop {
            let [kind, subkind, low, high] = *list.first_chunk::<HEAD>()?;
            let length = usize::from(u16::from_le_bytes([low, high]));
            let data = list.get(HEAD..length)?;
            list = list.get(length..)?;
            nodes.push(match (kind, subkind) {
                // The end of the path, or of one of the places where the file may be.
                (END, _) => return Some(Self(nodes)),
                (MEDIA, HARD_DRIVE) => match HardDrive::parse(data) {
                    Some(drive) => Node::HardDrive(drive),
                    None => Node::Other { kind, subkind, data: data.to_vec() },
                },
                (MEDIA, FILE) => match text(data) {
                    Some((name, length)) if length == data.len() => Node::File(name),
                    _ => Node::Other { kind, subkind, data: data.to_vec() },
                },
                _ => Node::Other { kind, subkind, data: data.to_vec() },
            });
        }
    }

    /// Its bytes; `None` if a node is too long to be one.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for node in &self.0 {
            let (kind, subkind, data) = match node {
                Node::HardDrive(drive) => (MEDIA, HARD_DRIVE, drive.data()),
                Node::File(name) => (MEDIA, FILE, from_text(name)),
                Node::Other { kind, subkind, data } => (*kind, *subkind, data.clone()),
            };
            bytes.extend([kind, subkind]);
            bytes.extend(u16::try_from(data.len().checked_add(HEAD)?).ok()?.to_le_bytes());
            bytes.extend(data);
        }
        bytes.extend([END, ENTIRE, 4, 0]);
        Some(bytes)
    }

    /// Whether it leads through this partition.
    pub fn is_on(&self, partition: &Partition) -> bool {
        self.0.iter().any(|node| matches!(node, Node::HardDrive(drive) if drive.partition.is_same(partition)))
    }

    /// The name of the file at its end.
    pub fn file(&self) -> Option<String> {
        let parts: Vec<&str> = self
            .0
            .iter()
            .filter_map(|node| if let Node::File(name) = node { Some(name.trim_matches('\\')) } else { None })
            .collect();
        (!parts.is_empty()).then(|| format!("\\{}", parts.join("\\")))
    }
}
