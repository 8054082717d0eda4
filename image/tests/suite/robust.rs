//! No input makes a parser panic.

use proptest::prelude::*;
use strata_image::manifest::Document;
use strata_image::{ImageConfig, Platform, Reference};

proptest! {
    #[test]
    fn a_reference_that_parses_reads_back_as_itself(text in "[a-zA-Z0-9.:/@_\\[\\]-]{0,40}|\\PC{0,40}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference.clone());
            prop_assert_eq!(Reference::parse(&reference.familiar()).unwrap(), reference);
        }
    }

    #[test]
    fn a_platform_that_parses_reads_back_as_itself(text in "[a-z0-9/]{0,20}|\\PC{0,20}") {
        if let Ok(platform) = text.parse::<Platform>() {
            prop_assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform);
        }
    }

    #[test]
    fn documents_and_configs_of_any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Document::parse(&bytes, None));
        drop(ImageConfig::parse(&bytes));
    }

    #[test]
    fn a_config_that_parses_keeps_its_bytes(text in r#"\{"architecture":"[a-z]{0,3}","config":\{("Env":\["[A-Z]=[a-z]"\],)?"x":[0-9]\},"os":"","rootfs":\{"type":"layers","diff_ids":\[\]\}(,"y":null)?\}"#) {
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(String::from_utf8(config.to_bytes()).unwrap(), text);
    }
}
