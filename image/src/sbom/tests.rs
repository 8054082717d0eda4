//! Trees with databases of every kind, made by hand, whole and damaged.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use strata_cache::LayerView;

use super::rpm::sample;
use super::{Document, Inventory, scan};

struct Tree {
    _directory: tempfile::TempDir,
    root: PathBuf,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("layer");
        std::fs::create_dir(&root).unwrap();
        Self {
            _directory: directory,
            root,
        }
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn program(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.put(path, content);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn scan(&self) -> Inventory {
        scan(&LayerView::new(vec![self.root.clone()])).unwrap()
    }

    fn purls(&self) -> Vec<String> {
        let inventory = self.scan();
        assert_eq!(inventory.notes, Vec::<String>::new());
        inventory
            .packages
            .iter()
            .map(super::Package::purl)
            .collect()
    }
}

const DEBIAN: &str = "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";

const STATUS: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\n\
    Source: glibc\nVersion: 2.36-9\nMaintainer: GNU Libc Maintainers <x@y>\n\n\
    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";

#[test]
fn dpkg_and_distroless_stanzas_are_packages() {
    let tree = Tree::new();
    tree.put("usr/lib/os-release", DEBIAN);
    std::os::unix::fs::symlink("usr/lib", tree.root.join("lib")).unwrap();
    std::fs::create_dir(tree.root.join("etc")).unwrap();
    std::os::unix::fs::symlink("../lib/os-release", tree.root.join("etc/os-release")).unwrap();
    tree.put("var/lib/dpkg/status", STATUS);
    tree.put(
        "var/lib/dpkg/status.d/tzdata",
        "Package: tzdata\nVersion: 2024a\n",
    );
    tree.put(
        "var/lib/dpkg/status.d/tzdata.md5sums",
        "Package: x\nVersion: 1\n",
    );
    tree.put(
        "usr/share/doc/libc6/copyright",
        "Format: x\nLicense: LGPL-2.1+\n",
    );
    assert_eq!(
        tree.purls(),
        [
            "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian-12&upstream=glibc",
            "pkg:deb/debian/tzdata@2024a?distro=debian-12",
        ]
    );
    let libc = &tree.scan().packages[0];
    assert_eq!(libc.licence.as_deref(), Some("LGPL-2.1-or-later"));
    assert_eq!(libc.places, ["/var/lib/dpkg/status"]);
}

#[test]
fn npm_packages_are_listed_whether_installed_or_locked() {
    let tree = Tree::new();
    let modules = "app/node_modules";
    tree.put(
        &format!("{modules}/@babel/core/package.json"),
        r#"{"name":"@babel/core","version":"7.1.0","license":{"type":"MIT"},"author":{"name":"B"}}"#,
    );
    tree.put(
        &format!("{modules}/left/package.json"),
        "\u{feff}{\"name\":\"left\",\"version\":\"1.0.0\",\"licenses\":[{\"type\":\"MIT\"},\"ISC\"]}",
    );
    // A hint for loaders, and the project itself.
    tree.put(
        &format!("{modules}/left/esm/package.json"),
        r#"{"type":"module"}"#,
    );
    tree.put("app/package.json", r#"{"name":"app","version":"1.0.0"}"#);
    tree.put(
        "app/package-lock.json",
        r#"{"lockfileVersion":3,"packages":{"":{"name":"app","version":"1.0.0"},
            "node_modules/left":{"version":"1.0.0"},
            "node_modules/a/node_modules/@s/b":{"version":"2.0.0","license":"ISC"},
            "node_modules/tool":{"version":"3.0.0","dev":true},
            "node_modules/linked":{"resolved":"packages/x","link":true}}}"#,
    );
    tree.put(
        "old/package-lock.json",
        r#"{"lockfileVersion":1,"dependencies":{"c":{"version":"1.1.0",
            "dependencies":{"d":{"version":"1.2.0"}}},"e":{"version":"github:x/e#1"},
            "f":{"version":"9.0.0","dev":true}}}"#,
    );
    assert_eq!(
        tree.purls(),
        [
            "pkg:npm/%40babel/core@7.1.0",
            "pkg:npm/%40s/b@2.0.0",
            "pkg:npm/c@1.1.0",
            "pkg:npm/d@1.2.0",
            "pkg:npm/left@1.0.0",
        ]
    );
    let left = &tree.scan().packages[4];
    assert_eq!(left.licence.as_deref(), Some("ISC OR MIT"));
    assert_eq!(
        left.places,
        [
            "/app/node_modules/left/package.json",
            "/app/package-lock.json"
        ]
    );
}

#[test]
fn python_and_cargo_files_are_read() {
    let tree = Tree::new();
    let site = "usr/lib/python3/dist-packages";
    tree.put(
        &format!("{site}/Flask_Login-0.6.dist-info/METADATA"),
        "Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6\nLicense: MIT License\n\
         Author: A\n\nName: not-a-header\n",
    );
    tree.put(
        &format!("{site}/six.egg-info"),
        "Name: six\nVersion: 1.16.0\nClassifier: License :: OSI Approved :: MIT License\n",
    );
    tree.put("srv/METADATA", "Name: none\nVersion: 1\n");
    tree.put(
        "srv/requirements-prod.txt",
        "Django==4.2 --hash=sha256:0\nflask>=1\n",
    );
    tree.put(
        "srv/poetry.lock",
        "[[package]]\nname = \"Rich\"\nversion = \"13.0\"\n",
    );
    tree.put(
        "srv/Pipfile.lock",
        r#"{"default":{"attrs":{"version":"==23.1"}},"develop":{"x":{"version":"==1"}}}"#,
    );
    tree.put(
        "srv/Cargo.lock",
        "version = 3\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\n\
         source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
         [[package]]\nname = \"g\"\nversion = \"0.1.0\"\nsource = \"git+https://u:p@h/g?x=1#abc\"\n",
    );
    assert_eq!(
        tree.purls(),
        [
            "pkg:cargo/g@0.1.0?vcs_url=git%2Bhttps:%2F%2Fh%2Fg%3Fx%3D1%23abc",
            "pkg:cargo/serde@1.0.1",
            "pkg:pypi/attrs@23.1",
            "pkg:pypi/django@4.2",
            "pkg:pypi/flask-login@0.6",
            "pkg:pypi/rich@13.0",
            "pkg:pypi/six@1.16.0",
        ]
    );
    let licences = tree
        .scan()
        .packages
        .into_iter()
        .map(|package| package.licence);
    assert_eq!(licences.flatten().collect::<Vec<_>>(), ["MIT", "MIT"]);
}

/// A database as rpm makes it, written by `SQLite` itself: some rows in the file, some only in its log.
fn sqlite(tree: &Tree, names: &[String]) {
    let path = tree.put("var/lib/rpm/rpmdb.sqlite", "");
    let database = rusqlite::Connection::open(&path).unwrap();
    let put = |names: &[String]| {
        for name in names {
            let sql = "INSERT INTO Packages (blob) VALUES (?1)";
            database.execute(sql, [sample(name)]).unwrap();
        }
    };
    let sql = "PRAGMA journal_mode=WAL; CREATE TABLE Other (x);
        CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);";
    database.execute_batch(sql).unwrap();
    let (file, log) = names.split_at(names.len() / 2);
    put(file);
    database
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    put(log);
    // A connection that ends takes its log with it: keep what is there now.
    let log = std::fs::read(path.with_extension("sqlite-wal")).unwrap();
    assert!(!log.is_empty());
    let content = std::fs::read(&path).unwrap();
    drop(database);
    std::fs::write(&path, content).unwrap();
    std::fs::write(path.with_extension("sqlite-wal"), log).unwrap();
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number:03}")).collect()
}

fn names_of(inventory: &Inventory) -> Vec<String> {
    let packages = inventory.packages.iter();
    packages.map(|package| package.name.clone()).collect()
}

#[test]
fn rpm_packages_are_read_from_a_database_and_its_log() {
    let tree = Tree::new();
    tree.put("etc/os-release", "ID=fedora\nVERSION_ID=40\n");
    let names = names(150);
    sqlite(&tree, &names);
    let inventory = tree.scan();
    assert_eq!(inventory.notes, Vec::<String>::new());
    assert_eq!(names_of(&inventory), names);
    assert_eq!(
        inventory.packages[0].purl(),
        "pkg:rpm/fedora/p000@1.2-3.fc40?arch=noarch&distro=fedora-40&epoch=1\
         &upstream=src-1.2-3.fc40.src.rpm"
    );
}

/// rpm's own form: slots, then headers in blocks.
fn ndb(names: &[String]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut file = b"RpmP".to_vec();
    for number in [0, 1, 1, names.len() + 1, 0, 0, 0] {
        file.extend(word(number));
    }
    let mut blobs = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let header = sample(name);
        file.extend(b"Slot");
        let block = (4096 + blobs.len()) / 16;
        for number in [index + 1, block, header.len() / 16 + 2] {
            file.extend(word(number));
        }
        blobs.extend(b"BlbS");
        for number in [index + 1, 1, header.len()] {
            blobs.extend(word(number));
        }
        blobs.extend(header);
        blobs.resize(blobs.len().next_multiple_of(16), 0);
    }
    while file.len() < 4096 {
        file.extend(b"Slot");
        file.resize(file.len() + 12, 0);
    }
    file.extend(blobs);
    file
}

/// A hash of Berkeley DB: one page of entries, the values in pages of their own.
fn bdb(names: &[String]) -> Vec<u8> {
    const PAGE: usize = 4096;
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let short = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
    let mut meta = vec![0; PAGE];
    meta[12..16].copy_from_slice(&word(0x0006_1561));
    meta[20..24].copy_from_slice(&word(PAGE));
    meta[25] = 8;
    let mut page = vec![0; PAGE];
    page[25] = 13;
    let (mut entries, mut end, mut overflow) = (0, PAGE, Vec::new());
    let mut entry = |content: &[u8], page: &mut Vec<u8>| {
        end -= content.len();
        page[end..end + content.len()].copy_from_slice(content);
        page[26 + 2 * entries..28 + 2 * entries].copy_from_slice(&short(end));
        entries += 1;
        page[20..22].copy_from_slice(&short(entries));
    };
    // The first value is the number of the last package.
    entry(b"\x01\0\0\0\0", &mut page);
    entry(b"\x01\x01\0\0\0", &mut page);
    for name in names {
        let header = sample(name);
        entry(b"\x01\x01\0\0\0", &mut page);
        let first = 2 + overflow.len() / PAGE;
        let mut value = vec![3, 0, 0, 0];
        value.extend(word(first));
        value.extend(word(header.len()));
        entry(&value, &mut page);
        let parts: Vec<&[u8]> = header.chunks(PAGE - 26).collect();
        for (index, part) in parts.iter().enumerate() {
            let mut one = vec![0; PAGE];
            let next = if index + 1 == parts.len() {
                0
            } else {
                first + index + 1
            };
            one[16..20].copy_from_slice(&word(next));
            one[22..24].copy_from_slice(&short(part.len()));
            one[25] = 7;
            one[26..26 + part.len()].copy_from_slice(part);
            overflow.extend(one);
        }
    }
    [meta, page, overflow].concat()
}

#[test]
fn older_forms_of_rpms_database_are_read() {
    let names = names(5);
    for (path, content) in [
        ("usr/lib/sysimage/rpm/Packages.db", ndb(&names)),
        ("var/lib/rpm/Packages", bdb(&names)),
    ] {
        let tree = Tree::new();
        tree.put(path, content);
        let inventory = tree.scan();
        assert_eq!(inventory.notes, Vec::<String>::new(), "{path}");
        assert_eq!(names_of(&inventory), names, "{path}");
    }
}

/// A program with the block that Go's linker writes, in a section or only in the data.
fn go(inline: bool, section: bool) -> Vec<u8> {
    const DATA: u64 = 0x200;
    const ADDRESS: u64 = 0x40_0000;
    let list = format!(
        "{0}path\tx\nmod\texample.com/x\tv1.2.3\th1:=\ndep\tgolang.org/x/net\tv0.1.0\th1:=\n{0}",
        "0123456789abcdef"
    );
    let mut block = b"\xff Go buildinf:".to_vec();
    block.push(8);
    if inline {
        block.push(2);
        block.resize(32, 0);
        for text in ["go1.22.1", &list] {
            let length = text.len();
            if length >= 0x80 {
                block.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            }
            block.push(u8::try_from(if length >= 0x80 { length >> 7 } else { length }).unwrap());
            block.extend(text.as_bytes());
        }
    } else {
        block.push(0);
        let headers = ADDRESS + 32;
        let texts = headers + 32;
        block.extend(headers.to_le_bytes());
        block.extend((headers + 16).to_le_bytes());
        block.extend(texts.to_le_bytes());
        block.extend(8_u64.to_le_bytes());
        block.extend((texts + 8).to_le_bytes());
        block.extend((list.len() as u64).to_le_bytes());
        block.extend(b"go1.22.1");
        block.extend(list.as_bytes());
    }
    let size = block.len() as u64;
    let mut file = vec![0; 0x200];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let names = b"\0.go.buildinfo\0.shstrtab\0";
    let sections = DATA + size + names.len() as u64;
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x20, &0x40_u64.to_le_bytes());
    put(0x36, &56_u16.to_le_bytes());
    put(0x38, &1_u16.to_le_bytes());
    if section {
        put(0x28, &sections.to_le_bytes());
        put(0x3a, &64_u16.to_le_bytes());
        put(0x3c, &2_u16.to_le_bytes());
        put(0x3e, &1_u16.to_le_bytes());
    }
    // One segment: loaded, to be read and written.
    put(0x40, &1_u32.to_le_bytes());
    put(0x44, &6_u32.to_le_bytes());
    put(0x48, &DATA.to_le_bytes());
    put(0x50, &ADDRESS.to_le_bytes());
    put(0x60, &size.to_le_bytes());
    file.extend(block);
    file.extend(names);
    for (name, offset, size) in [(1_u32, DATA, size), (15, DATA + size, names.len() as u64)] {
        let mut entry = vec![0; 64];
        entry[..4].copy_from_slice(&name.to_le_bytes());
        entry[0x18..0x20].copy_from_slice(&offset.to_le_bytes());
        entry[0x20..0x28].copy_from_slice(&size.to_le_bytes());
        file.extend(entry);
    }
    file
}

#[test]
fn go_programs_of_every_age_name_their_modules() {
    for (inline, section) in [(true, true), (true, false), (false, true), (false, false)] {
        let tree = Tree::new();
        tree.program("usr/bin/x", go(inline, section));
        tree.put("usr/share/x", go(inline, section));
        assert_eq!(
            tree.purls(),
            [
                "pkg:golang/example.com/x@v1.2.3",
                "pkg:golang/golang.org/x/net@v0.1.0",
                "pkg:golang/stdlib@1.22.1",
            ],
            "{inline} {section}"
        );
        assert_eq!(tree.scan().packages[0].places, ["/usr/bin/x"]);
    }
}

#[test]
fn a_package_in_two_layers_is_what_the_upper_one_says() {
    let (lower, upper) = (Tree::new(), Tree::new());
    lower.put("lib/apk/db/installed", "P:a\nV:1\n\nP:b\nV:1\n");
    upper.put("lib/apk/db/installed", "P:a\nV:2\n");
    let view = LayerView::new(vec![lower.root.clone(), upper.root.clone()]);
    let inventory = scan(&view).unwrap();
    assert_eq!(inventory.packages.len(), 1);
    assert_eq!(inventory.packages[0].purl(), "pkg:apk/alpine/a@2");
}

#[test]
fn what_can_not_be_read_is_a_note() {
    let tree = Tree::new();
    tree.put("var/lib/rpm/Packages", vec![0; 4096]);
    tree.put("a/Cargo.lock", "[[package]]\nname = 1\n");
    tree.put("a/package-lock.json", "[");
    tree.put("a/poetry.lock", "[[");
    tree.put("a/Pipfile.lock", "\0");
    tree.put("x.dist-info/METADATA", "Name: x\n");
    let large = tree.put("var/lib/dpkg/status", "");
    std::fs::File::options()
        .write(true)
        .open(large)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let inventory = tree.scan();
    assert_eq!(inventory.packages, []);
    assert_eq!(
        inventory.notes,
        [
            "/var/lib/dpkg/status: is too large to be read",
            "/var/lib/rpm/Packages: is no hash of Berkeley DB",
            "/a/Cargo.lock: is not a lock file of Cargo",
            "/a/Pipfile.lock: is not a lock file of Pipenv",
            "/a/package-lock.json: is not a lock file of npm",
            "/a/poetry.lock: is not a lock file of Poetry or uv",
            "/x.dist-info/METADATA: has no name and version",
        ]
    );
    let document = Document {
        name: "x",
        created: 0,
    };
    let text = document.of(&inventory).to_string();
    assert!(text.contains("is no hash of Berkeley DB"), "{text}");
}

#[test]
fn names_that_can_not_be_packages_are_left_out() {
    let tree = Tree::new();
    let long = "x".repeat(2000);
    tree.put(
        "a/package-lock.json",
        format!(
            r#"{{"packages":{{"node_modules/a\u0007b":{{"version":"1"}},
                "node_modules/{long}":{{"version":"1"}},"node_modules/ok":{{"version":"1"}}}}}}"#
        ),
    );
    let inventory = tree.scan();
    assert_eq!(names_of(&inventory), ["ok"]);
    assert_eq!(inventory.notes.len(), 2);
}

/// Damages a database in many ways. Nothing may panic or run without an end.
fn damage(path: &str, content: &[u8], step: usize) {
    let tree = Tree::new();
    let head = content.len().min(4400);
    for at in (0..head).step_by(step) {
        let mut changed = content.to_vec();
        changed[at] ^= 0xff;
        tree.program(path, &changed);
        drop(tree.scan());
        tree.program(path, &content[..at]);
        drop(tree.scan());
    }
}

#[test]
fn damaged_databases_come_to_an_end() {
    let tree = Tree::new();
    sqlite(&tree, &names(4));
    let content = std::fs::read(tree.root.join("var/lib/rpm/rpmdb.sqlite")).unwrap();
    damage("var/lib/rpm/rpmdb.sqlite", &content, 17);
    damage("var/lib/rpm/Packages.db", &ndb(&names(3)), 17);
    damage("var/lib/rpm/Packages", &bdb(&names(3)), 17);
    damage("usr/bin/x", &go(true, true), 3);
    damage("usr/bin/x", &go(false, true), 3);
}

#[test]
fn a_document_holds_every_package_and_repeats_byte_for_byte() {
    let make = || {
        let tree = Tree::new();
        tree.put("etc/os-release", DEBIAN);
        tree.put("var/lib/dpkg/status", STATUS);
        tree.put("usr/share/doc/libc6/copyright", "Format: x\nLicense: odd\n");
        let document = Document {
            name: "app",
            created: 1_700_000_000,
        };
        document.of(&tree.scan())
    };
    let document = make();
    assert_eq!(document.to_string(), make().to_string());
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert_eq!(document["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    let packages = document["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 2);
    assert_eq!(packages[1]["name"], "libc6");
    assert_eq!(
        packages[1]["supplier"],
        "Organization: GNU Libc Maintainers <x@y>"
    );
    assert_eq!(packages[1]["licenseDeclared"], "LicenseRef-odd");
    assert_eq!(
        document["hasExtractedLicensingInfos"][0]["licenseId"],
        "LicenseRef-odd"
    );
    let relations = document["relationships"].as_array().unwrap();
    assert_eq!(relations[0]["relationshipType"], "DESCRIBES");
    assert_eq!(relations[1]["relatedSpdxElement"], packages[1]["SPDXID"]);
}
