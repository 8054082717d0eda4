//! Downloads that end in the middle: the next run fetches the rest, and nothing that is wrong with the
//! part that was kept gets into an image.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{At, Harm, Proxy, Random, Registry, Sandbox, cases, run_quietly, wait_until};

cases! { Root, User =>
    a_download_that_was_cut_off_goes_on_in_the_next_run,
    a_killed_download_goes_on_in_the_next_run,
    a_spoilt_part_is_fetched_again,
    parts_that_nobody_goes_on_with_are_collected,
}

cases! { Root =>
    another_place_goes_on_with_the_part,
}

/// Pauses too short to notice.
const QUICK: &str = "[transfer]\nretry-pause = \"1ms\"\n";
/// A pause that no test outlives.
const NEVER: &str = "[transfer]\nretry-pause = \"1h\"\n";

/// A registry with the image `app:1`, of one layer that nothing compresses, and a proxy before it.
struct Place {
    registry: Registry,
    proxy: Proxy,
    /// Where the layer is, and its size.
    path: String,
    size: usize,
}

impl Place {
    fn new(sandbox: &Sandbox) -> Self {
        let registry = Registry::start();
        let proxy = Proxy::start(registry.port());
        let maker = Sandbox::new(sandbox.who()).unwrap();
        let mut random = Random::new(11);
        let noise: Vec<u8> = (0..400_000)
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        maker
            .write("noise", noise)
            .dockerfile("FROM scratch\nCOPY noise /noise\n");
        maker.steps(&["-t", "app:1"]);
        maker.run(&["push", "app:1", &registry.reference("app:1")]);
        let name = registry.skopeo("app:1");
        let text = run_quietly("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let layer = &manifest["layers"][0];
        sandbox.configure(QUICK);
        Self {
            registry,
            proxy,
            path: format!("/blobs/{}", layer["digest"].as_str().unwrap()),
            size: usize::try_from(layer["size"].as_u64().unwrap()).unwrap(),
        }
    }

    fn name(&self) -> String {
        self.proxy.reference("app:1")
    }

    /// The network does not come back after this part of the layer.
    fn cut(&self, at: At) {
        self.proxy.mend();
        self.proxy.harm(1, "GET", &self.path, Harm::Cut(at));
        self.proxy.harm(usize::MAX, "GET", &self.path, Harm::HangUp);
    }

    /// A pull that ends there.
    fn half(&self, sandbox: &Sandbox, at: At) {
        self.cut(at);
        sandbox.try_run(&["pull", &self.name()]).failure(1);
        sandbox.run(&["cache", "verify", "--deep"]);
        self.proxy.mend();
        self.proxy.log();
    }

    /// Bytes of the layer that were sent since the last call.
    fn sent(&self) -> usize {
        let log = self.proxy.log();
        let asked = log.iter().filter(|asked| asked.is("GET", &self.path));
        asked.map(|asked| asked.sent).sum()
    }

    /// The image is whole.
    fn check(&self, sandbox: &Sandbox, case: &str) {
        let verified = sandbox.try_run(&["cache", "verify", "--deep"]);
        assert_eq!(verified.code(), 0, "{case}: {verified}");
        let image = sandbox.saved(&self.name());
        let file = &image.tree().at("noise").line();
        assert_eq!(file, "f 0644 0:0", "{case}");
        assert_eq!(parts(sandbox), Vec::<PathBuf>::new(), "{case}");
    }
}

/// The parts that a store keeps.
fn parts(sandbox: &Sandbox) -> Vec<PathBuf> {
    let directory = fs::read_dir(sandbox.path("store/blobs/partial"));
    let entries = directory.into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn held(sandbox: &Sandbox) -> u64 {
    let parts = parts(sandbox).into_iter();
    parts
        .map(|part| fs::metadata(part).map_or(0, |data| data.len()))
        .sum()
}

fn a_download_that_was_cut_off_goes_on_in_the_next_run(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    for (case, at) in [
        ("nothing", At::Byte(0)),
        ("one byte", At::Byte(1)),
        ("a little", At::Byte(1_000)),
        ("half", At::Middle),
        ("most", At::Byte(300_001)),
        ("all but one byte", At::Last(1)),
    ] {
        let fresh = Sandbox::new(sandbox.who()).unwrap();
        fresh.configure(QUICK);
        place.half(&fresh, at);
        let kept = usize::try_from(held(&fresh)).unwrap();
        match at {
            At::Byte(count) => assert_eq!(kept, count, "{case}"),
            At::Middle => assert_eq!(kept, place.size / 2, "{case}"),
            At::Last(count) => assert_eq!(kept, place.size - count, "{case}"),
        }
        // It is the build that needs it now.
        fresh.dockerfile(&format!(
            "FROM {}\nCOPY --from={0} /noise /again\n",
            place.name()
        ));
        fresh.steps(&["-t", "it"]);
        assert_eq!(place.sent(), place.size - kept, "{case}");
        place.check(&fresh, case);
    }
}

fn a_killed_download_goes_on_in_the_next_run(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        let fresh = Sandbox::new(sandbox.who()).unwrap();
        // It waits for the network when it is killed.
        fresh.configure(NEVER);
        place.cut(At::Middle);
        let pull = fresh.strata().args(["pull", &place.name()]).spawn();
        let half = place.size / 2;
        wait_until("half of it is there", || held(&fresh) == half as u64);
        pull.signal(signal);
        assert_ne!(pull.wait().code(), 0);
        place.proxy.mend();
        place.proxy.log();
        fresh.run(&["cache", "verify", "--deep"]);
        // Meanwhile something else is built, and leftovers are collected.
        fresh
            .write("f", "f")
            .dockerfile("FROM scratch\nCOPY f /f\n");
        fresh.steps(&[]);
        fresh.run(&["pull", &place.name()]);
        assert_eq!(place.sent(), place.size - half, "{signal}");
        place.check(&fresh, signal.as_str());
    }
}

/// Does harm to a part of so many bytes.
type Spoil = fn(&fs::File, u64);

fn a_spoilt_part_is_fetched_again(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let half = u64::try_from(place.size / 2).unwrap();
    let cases: [(&str, Spoil); 4] = [
        ("another byte", |file, half| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, half / 2).unwrap();
            file.write_all_at(&[byte[0] ^ 1], half / 2).unwrap();
        }),
        ("zeros, as after a power cut", |file, half| {
            file.set_len(0).unwrap();
            file.set_len(half).unwrap();
        }),
        ("whole, and wrong", |file, half| {
            file.set_len(2 * half).unwrap();
        }),
        ("longer than the whole", |file, half| {
            file.set_len(3 * half).unwrap();
        }),
    ];
    for (case, spoil) in cases {
        let fresh = Sandbox::new(sandbox.who()).unwrap();
        fresh.configure(QUICK);
        place.half(&fresh, At::Middle);
        let part = parts(&fresh).remove(0);
        let file = fs::File::options().read(true).write(true).open(part);
        spoil(&file.unwrap(), half);
        fresh.run(&["pull", &place.name()]);
        let sent = place.sent();
        assert!(
            sent >= place.size && sent < 2 * place.size,
            "{case}: {sent}"
        );
        place.check(&fresh, case);
    }
}

fn parts_that_nobody_goes_on_with_are_collected(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let collect = |number: u32| {
        sandbox
            .write("f", format!("{number}"))
            .dockerfile("FROM scratch\nCOPY f /f\n");
        sandbox.steps(&[]);
    };
    place.half(sandbox, At::Middle);
    collect(1);
    let part = parts(sandbox).remove(0);
    // Two days later.
    let old = SystemTime::now() - Duration::from_hours(48);
    let file = fs::File::options().write(true).open(&part).unwrap();
    file.set_modified(old).unwrap();
    collect(2);
    wait_until("the old part is gone", || parts(sandbox).is_empty());
    place.half(sandbox, At::Middle);
    assert_eq!(parts(sandbox), [part]);
    sandbox.run(&["cache", "prune", "--all", "--force"]);
    assert_eq!(parts(sandbox), Vec::<PathBuf>::new());
}

fn another_place_goes_on_with_the_part(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let mirror = Proxy::start(place.registry.port());
    for (case, harm, whole) in [
        ("cut", Harm::Cut(At::Middle), false),
        // Its half does not fit to the other one.
        ("another half", Harm::Flip(At::Byte(5)), true),
    ] {
        let fresh = Sandbox::new(sandbox.who()).unwrap();
        fresh.configure(&format!(
            "{QUICK}[registry.\"{}\"]\nmirrors = [\"{}\"]\n",
            place.proxy.host(),
            mirror.host()
        ));
        mirror.mend();
        mirror.harm(1, "GET", &place.path, harm);
        mirror.harm(usize::MAX, "GET", &place.path, Harm::HangUp);
        place.proxy.log();
        fresh.run(&["pull", &place.name()]);
        assert_eq!(place.sent() == place.size, whole, "{case}");
        place.check(&fresh, case);
    }
}
