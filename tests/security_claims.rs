//! Every claim of `docs/security.md` names its test: those that are named have to be there.

use std::fs;
use std::path::Path;

/// Sources of tests, one after the other.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn tests_and_files_that_the_security_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let tests = sources(&root.join("tests"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let (mut named, mut wrong) = (0, Vec::new());
    // Every other part is between backticks.
    for word in page.split('`').skip(1).step_by(2) {
        let exists = if let Some(target) = word.strip_prefix("make ") {
            makefile.contains(&format!("\n{target}: "))
        } else if Path::new(word).extension().is_some_and(|it| it == "rs") {
            root.join(word).is_file()
        } else if word.contains("::") || word.matches('_').count() > 2 {
            let name = word.rsplit("::").next().unwrap();
            tests.contains(&format!("fn {name}("))
        } else {
            continue;
        };
        named += 1;
        if !exists {
            wrong.push(word);
        }
    }
    assert!(named > 30, "{named}");
    assert_eq!(wrong, Vec::<&str>::new());
}
