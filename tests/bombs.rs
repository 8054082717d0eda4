//! Layers that are small until they are unpacked.

use std::fs::File;

use crate::support::{Registry, Sandbox, cases, run_quietly};

cases! { Root, User =>
    a_layer_that_unpacks_to_too_many_times_its_size_is_refused,
}

fn a_layer_that_unpacks_to_too_many_times_its_size_is_refused(sandbox: &Sandbox) {
    // As much as 64 MiB may be unpacked from anything.
    let zeros = sandbox.path("zeros");
    File::create(&zeros).unwrap().set_len(70 << 20).unwrap();
    let bomb = sandbox.path("bomb.tar.gz");
    let (bomb, directory) = (bomb.to_str().unwrap(), sandbox.path(""));
    run_quietly(
        "tar",
        &["-czf", bomb, "-C", directory.to_str().unwrap(), "zeros"],
    );
    sandbox.hand_over(bomb.as_ref());
    let registry = Registry::start();
    let name = registry.reference("bomb:1");
    let maker = Sandbox::new(sandbox.who()).unwrap();
    maker.run(&["import", bomb, &name]);
    maker.run(&["push", &name]);

    sandbox.configure("[unpack]\nmax-ratio = 100\n");
    let refused = "unpacks to more than 100 times its size (`max-ratio`)";
    sandbox
        .try_run(&["import", bomb, "it"])
        .failure(1)
        .says(refused);
    sandbox.dockerfile(&format!("FROM {name}\nRUN [\"x\"]\n"));
    sandbox.try_build(&[]).failure(1).says(refused);
    sandbox.run(&["cache", "verify", "--deep"]);
    assert_eq!(sandbox.run(&["images", "-q"]).stdout, "");

    sandbox.configure("[unpack]\nmax-ratio = 2000\n");
    sandbox.run(&["import", bomb, "it"]);
    sandbox.dockerfile(&format!("FROM {name}\nCOPY --from=it /zeros /more\n"));
    sandbox.steps(&[]);
}
