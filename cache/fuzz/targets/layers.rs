#![no_main]

#[path = "../src/layers.rs"]
mod layers;
#[path = "../src/place.rs"]
mod place;

use std::cell::RefCell;

thread_local! {
    static PLACE: RefCell<place::Place> = RefCell::new(place::Place::of_process());
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    PLACE.with_borrow_mut(|place| layers::run(data, place));
});
