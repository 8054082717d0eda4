//! Archives made of entries that meet: few names, so that most bytes of the input lead to something.

use crate::place::Place;

const BLOCK: usize = 512;

/// What names are made of. The last one stands for 255 bytes.
const NAMES: [&[u8]; 22] = [
    b"a",
    b"b",
    b"c",
    b"dir",
    b"file",
    b"in",
    b"up",
    b"abs",
    b"loop",
    b"gone",
    b"way",
    b"linked",
    b"..",
    b".",
    b"",
    b".wh.a",
    b".wh.dir",
    b".wh.file",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b"\xff",
    b"*",
];

/// Entries after which the rest of the input is left.
const MOST: usize = 40;

/// Builds an archive from `data` and unpacks it.
pub(crate) fn run(data: &[u8], place: &mut Place) {
    let tar = build(data, &place.outside());
    place.unpack(&tar);
}

/// The bytes of the input one by one; zeros behind its end.
struct Input<'a>(std::slice::Iter<'a, u8>);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// One of `most`.
    fn choice(&mut self, most: usize) -> usize {
        usize::from(self.byte()) % most
    }

    /// A path of one to four names, now and then an absolute one.
    fn path(&mut self, outside: &[u8]) -> Vec<u8> {
        let shape = self.byte();
        let mut path = match shape >> 4 {
            0xf => [outside, b"/"].concat(),
            0xe => b"/".to_vec(),
            0xd => b"../outside/".to_vec(),
            _ => Vec::new(),
        };
        for index in 0..=shape & 3 {
            if index > 0 {
                path.push(b'/');
            }
            match NAMES[self.choice(NAMES.len())] {
                b"*" => path.extend_from_slice(&[b'n'; 255]),
                name => path.extend_from_slice(name),
            }
        }
        path
    }
}

fn build(data: &[u8], outside: &[u8]) -> Vec<u8> {
    let mut input = Input(data.iter());
    let mut tar = Vec::new();
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let flag = b"0050125120346017"[usize::from(kind & 15)];
        let mut entry = Entry {
            flag,
            name: input.path(outside),
            ..Entry::default()
        };
        if matches!(flag, b'1' | b'2') {
            entry.link = input.path(outside);
        }
        if matches!(flag, b'3' | b'4') {
            entry.device = input.byte() & 3;
        }
        if matches!(flag, b'0' | b'7') && kind & 0x10 != 0 {
            let size = input.choice(1100);
            entry.content = vec![kind; size];
        }
        // A plain entry takes few bytes of the input: details come only where they are asked for.
        if kind & 0x20 != 0 {
            let details = input.byte();
            entry.mode = u32::from(input.byte()) << 4 | 0o7;
            entry.uid = details & 7;
            entry.mtime = input.byte();
            if details & 0x10 != 0 {
                entry.attribute = Some(input.choice(ATTRIBUTES.len()));
            }
            entry.long = match details >> 6 {
                1 => Long::Pax,
                2 => Long::Gnu,
                _ => Long::Short,
            };
        }
        entry.write(&mut tar);
        if kind & 0xc0 == 0xc0 {
            // The archive may break off or go wrong anywhere.
            match input.byte() {
                0 => tar.truncate(tar.len() - 200),
                1 => tar.extend_from_slice(&[0; BLOCK]),
                _ => {}
            }
        }
    }
    tar.extend_from_slice(&[0; 2 * BLOCK]);
    tar
}

const ATTRIBUTES: [(&str, &[u8]); 6] = [
    ("user.x", b"value"),
    ("user.y", b"\0\n="),
    (
        "security.capability",
        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    ("trusted.overlay.opaque", b"y"),
    ("user.overlay.opaque", b"y"),
    ("trusted.overlay.redirect", b"/dir"),
];

/// How names are given.
#[derive(Default, Clone, Copy, PartialEq)]
enum Long {
    /// In the header, unless they don't fit.
    #[default]
    Short,
    Pax,
    Gnu,
}

#[derive(Default)]
struct Entry {
    flag: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    device: u8,
    content: Vec<u8>,
    mode: u32,
    uid: u8,
    mtime: u8,
    attribute: Option<usize>,
    long: Long,
}

impl Entry {
    fn write(&self, tar: &mut Vec<u8>) {
        let fits = self.name.len() <= 100 && self.link.len() <= 100;
        let mut records = Vec::new();
        if self.long == Long::Gnu {
            extension(tar, b'L', &self.name);
            if !self.link.is_empty() {
                extension(tar, b'K', &self.link);
            }
        } else if self.long == Long::Pax || !fits {
            records.extend(record(b"path", &self.name));
            if !self.link.is_empty() {
                records.extend(record(b"linkpath", &self.link));
            }
        }
        if let Some(index) = self.attribute {
            let (name, value) = ATTRIBUTES[index];
            records.extend(record(format!("SCHILY.xattr.{name}").as_bytes(), value));
        }
        if !records.is_empty() {
            extension(tar, b'x', &records);
        }
        let mut block = header(self.flag, self.content.len());
        put(&mut block, 0, 100, &self.name);
        put(&mut block, 100, 8, format!("{:07o}", self.mode).as_bytes());
        put(&mut block, 108, 8, format!("{:07o}", self.uid).as_bytes());
        put(
            &mut block,
            136,
            12,
            format!("{:011o}", self.mtime).as_bytes(),
        );
        put(&mut block, 157, 100, &self.link);
        put(
            &mut block,
            337,
            8,
            format!("{:07o}", self.device).as_bytes(),
        );
        seal(&mut block);
        tar.extend_from_slice(&block);
        push_content(tar, &self.content);
    }
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn extension(tar: &mut Vec<u8>, flag: u8, data: &[u8]) {
    let mut block = header(flag, data.len());
    put(&mut block, 0, 100, b"extension");
    seal(&mut block);
    tar.extend_from_slice(&block);
    push_content(tar, data);
}

fn header(flag: u8, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 100, 8, b"0000644");
    put(&mut block, 124, 12, format!("{size:011o}").as_bytes());
    put(&mut block, 257, 8, b"ustar\x0000");
    block[156] = flag;
    block
}

fn put(block: &mut [u8; BLOCK], at: usize, most: usize, bytes: &[u8]) {
    let length = bytes.len().min(most);
    block[at..at + length].copy_from_slice(&bytes[..length]);
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(block, 148, 8, format!("{sum:06o}\0 ").as_bytes());
}

fn push_content(tar: &mut Vec<u8>, data: &[u8]) {
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}
