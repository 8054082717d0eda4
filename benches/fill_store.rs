//! Fills a store through the cache crate, as builds of many projects over months would: for
//! `benches/store-scale`.
//!
//! `fill_store ROOT LAYERS RECORDS`. Chains of ten steps, twenty variants of each project, an image for
//! each chain and a name for every hundredth. A layer has a directory and a few small files, its first
//! record stands for the step that made it; the other records are recipes that gave the same again.
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::error::Error;
use std::fs;
use std::path::Path;

use strata_cache::image::{StoredImage, StoredLayer};
use strata_cache::{
    CacheKey, DiffId, Digest, KeyPart, LayerId, NewRecord, StackId, StepKind, Store,
};

const STEPS: u64 = 10;
const VARIANTS: u64 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, root, layers, records] = &arguments[..] else {
        return Err("usage: fill_store ROOT LAYERS RECORDS".into());
    };
    let (layers, records): (u64, u64) = (layers.parse()?, records.parse()?);
    let store = Store::open(Path::new(root))?;
    let mut made = Vec::new();
    for chain in 0..layers.div_ceil(STEPS) {
        made.extend(fill_chain(&store, chain)?);
    }
    let lease = store.lease("fill")?;
    let more = records.saturating_sub(made.len() as u64);
    for (number, (record, layer)) in (0..more).zip(made.iter().cycle()) {
        let record = NewRecord {
            key: key(&format!("again {number}")),
            ..record.clone()
        };
        if !store.index().publish_record(&lease, &record, *layer)? {
            return Err(format!("layer {layer} is gone").into());
        }
    }
    drop(lease);
    store.sync()?;
    println!(
        "{} layers, {} records",
        made.len(),
        made.len() as u64 + more
    );
    Ok(())
}

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text.as_bytes()))
}

fn fill_chain(store: &Store, chain: u64) -> Result<Vec<(NewRecord, LayerId)>, Box<dyn Error>> {
    let lease = store.lease("fill")?;
    let project = chain / VARIANTS;
    let mut stack: Vec<LayerId> = Vec::new();
    let mut made = Vec::new();
    for step in 0..STEPS {
        let scratch = store.scratch(&stack)?;
        let directory = scratch.upper().join(format!("opt{step}"));
        fs::create_dir(&directory)?;
        for file in 0..3 {
            let size = usize::try_from((chain * 7 + step * 131 + file * 517) % 9_000)?;
            fs::write(directory.join(format!("file{file}")), vec![b'x'; size])?;
        }
        let record = record(project, chain, step, &stack);
        let layer = scratch.commit(&lease, None, Some(record.clone()))?;
        let diff_id = DiffId(Digest::of(format!("diff {chain} {step}").as_bytes()));
        store.index().set_diff_id(layer, diff_id)?;
        stack.push(layer);
        made.push((record, layer));
    }
    let config = store
        .blobs()
        .put(format!("{{\"chain\":{chain}}}").as_bytes())?;
    let layers = stack.iter().zip(0..).map(|(layer, step)| StoredLayer {
        diff_id: DiffId(Digest::of(format!("diff {chain} {step}").as_bytes())),
        layer: Some(*layer),
        blob: None,
    });
    let image = StoredImage {
        config,
        manifest: None,
        layers: layers.collect(),
        created_ms: 1_700_000_000_000 + chain,
    };
    let names: &[String] = if chain.is_multiple_of(100) {
        &[format!("project{project}:{chain}")]
    } else {
        &[]
    };
    store.index().put_image(&image, names)?;
    Ok(made)
}

/// A record with as many parts as a usual step has.
fn record(project: u64, chain: u64, step: u64, stack: &[LayerId]) -> NewRecord {
    let (kind, text) = if step.is_multiple_of(3) {
        (
            StepKind::Copy,
            format!("COPY src{step} /opt{step}/ # project {project}"),
        )
    } else {
        (
            StepKind::Run,
            format!("RUN make -C /opt{step} project{project}"),
        )
    };
    let part = |name: String, value: String| KeyPart { name, value };
    let mut parts = vec![
        part("text".into(), text.clone()),
        part(
            "parent".into(),
            Digest::of(format!("{chain} {step}").as_bytes()).to_string(),
        ),
        part("directory".into(), "/".into()),
        part("platform".into(), "linux/amd64".into()),
    ];
    for number in 0..12 {
        parts.push(if kind == StepKind::Copy {
            let digest = Digest::of(format!("{chain} {step} {number}").as_bytes());
            part(
                format!("file src{step}/module{number}.c"),
                format!("644 {digest}"),
            )
        } else {
            part(
                format!("variable NAME{number}"),
                format!("value {number} of {project}"),
            )
        });
    }
    NewRecord {
        key: key(&format!("{chain} {step}")),
        parent: stack.last().copied(),
        operation: Digest::of(text.as_bytes()),
        content: key(&format!("content {chain} {step}")),
        kind,
        text,
        parts,
        cost_ms: 50 + (chain * 37 + step * 911) % 60_000,
        resources: None,
        made_ms: None,
        stack: StackId::of(stack),
        inputs: Vec::new(),
        selection: None,
    }
}
