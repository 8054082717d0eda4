#![no_main]

#[path = "../src/archive.rs"]
mod archive;
#[path = "../src/place.rs"]
mod place;
#[path = "../src/second.rs"]
mod second;

use std::cell::RefCell;

thread_local! {
    static PLACE: RefCell<place::Place> = RefCell::new(place::Place::of_process());
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for tar in [data.to_vec(), archive::repaired(data)] {
        if let Some(seen) = archive::entries(&tar) {
            second::compare(&tar, &seen);
        }
    }
    PLACE.with_borrow_mut(|place| archive::run(data, place));
});
