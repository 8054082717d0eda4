//! Contexts in object stores, asked for with the environment's credentials: `tests/support/buckets.py` checks the
//! signatures, without strata's code.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Output, Sandbox, cases, run};

cases! { Root =>
    a_context_can_be_an_object_of_a_bucket,
    credentials_are_for_addresses_of_the_command_line_alone,
}

/// The server, and what it serves.
struct Buckets {
    server: Child,
    port: u16,
}

impl Drop for Buckets {
    fn drop(&mut self) {
        self.server.kill().unwrap_or_default();
        drop(self.server.wait());
    }
}

impl Buckets {
    fn start(sandbox: &Sandbox) -> Self {
        let root = sandbox.path("buckets");
        sandbox
            .write("Dockerfile", "FROM scratch\nCOPY f /\n")
            .write("f", "text");
        for object in [
            "private/deep/a b+c.tar.gz",
            "public/c.tar.gz",
            "google/o/c.tar.gz",
            "account/container/c.tar.gz",
        ] {
            let path = root.join(object);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            run(Command::new("tar")
                .args(["--create", "--gzip", "--file"])
                .arg(path)
                .arg("--directory")
                .arg(sandbox.context())
                .arg("."));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/buckets.py");
        let mut server = Command::new("python3")
            .arg(script)
            .arg(&root)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self { server, port }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked since the last call.
    fn log(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let question = "GET /log HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        body.lines().map(str::to_owned).collect()
    }
}

const SECRETS: [&str; 5] = [
    "secret/of+s3",
    "session",
    "token-of-google",
    "a2V5IG9mIGF6dXJl",
    "of-the-token",
];

fn build(sandbox: &Sandbox, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut strata = sandbox.strata().args(["build", "--progress", "plain"]);
    for (name, value) in variables {
        strata = strata.env(name, value);
    }
    let output = strata.args(args).output();
    for secret in SECRETS {
        assert!(!output.stderr.contains(secret), "{output}");
    }
    output
}

fn a_context_can_be_an_object_of_a_bucket(sandbox: &Sandbox) {
    let buckets = Buckets::start(sandbox);
    let url = buckets.url();
    let (_, host) = url.split_once("://").unwrap();
    let endpoint = ("AWS_ENDPOINT_URL", url.as_str());
    let region = ("AWS_REGION", "eu-test-1");
    let id = ("AWS_ACCESS_KEY_ID", "id");
    let secret = ("AWS_SECRET_ACCESS_KEY", "secret/of+s3");
    let google = ("STORAGE_EMULATOR_HOST", host);
    let connection = format!(
        "DefaultEndpointsProtocol=http;AccountName=account;AccountKey=a2V5IG9mIGF6dXJl;BlobEndpoint={url}/account;"
    );
    let token = format!(
        "AccountName=account;BlobEndpoint={url}/account;SharedAccessSignature=?sv=1&sig=of-the-token"
    );
    let azure = ("AZURE_STORAGE_CONNECTION_STRING", connection.as_str());
    let shared = ("AZURE_STORAGE_CONNECTION_STRING", token.as_str());
    let blob = format!("{url}/account/container/c.tar.gz");
    let dated = format!("{blob}?versionid=2");
    let object = "s3://private/deep/a b+c.tar.gz";
    for (address, variables, fails) in [
        (object, &[endpoint, region, id, secret][..], None),
        (
            object,
            &[
                endpoint,
                region,
                id,
                secret,
                ("AWS_SESSION_TOKEN", "session"),
            ],
            None,
        ),
        (
            object,
            &[endpoint, region, id, ("AWS_SECRET_ACCESS_KEY", "other")],
            Some("403"),
        ),
        (object, &[endpoint, region], Some("403")),
        (
            object,
            &[endpoint, region, id],
            Some("AWS_SECRET_ACCESS_KEY"),
        ),
        (
            "s3://private/none",
            &[endpoint, region, id, secret],
            Some("404"),
        ),
        ("s3://public/c.tar.gz", &[endpoint], None),
        (
            "gs://google/o/c.tar.gz",
            &[google, ("GOOGLE_OAUTH_ACCESS_TOKEN", "token-of-google")],
            None,
        ),
        ("gs://google/o/c.tar.gz", &[google], Some("403")),
        ("gs://public/c.tar.gz", &[google], None),
        (&blob, &[azure], None),
        (&dated, &[azure], None),
        (&blob, &[shared], None),
        (&blob, &[], Some("403")),
        ("s3://bucket", &[endpoint], Some("one object")),
    ] {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let output = build(sandbox, &["--output", &to, address], variables);
        match fails {
            None => {
                output.success();
                let image = crate::support::Image::read(&archive);
                assert_eq!(image.tree().text("f"), "text", "{address}");
            }
            Some(part) => {
                assert!(!output.status.success(), "{address}: {output}");
                assert!(output.stderr.contains(part), "{part}: {output}");
            }
        }
    }
    // What is here is not sent again; the question is signed all the same.
    buckets.log();
    for (address, variables) in [
        (object, &[endpoint, region, id, secret][..]),
        (&blob, &[azure]),
    ] {
        build(sandbox, &["--output", "type=cacheonly", address], variables).success();
        let log = buckets.log();
        assert!(log.len() == 1 && log[0].ends_with(" 304"), "{log:?}");
    }
}

fn credentials_are_for_addresses_of_the_command_line_alone(sandbox: &Sandbox) {
    let buckets = Buckets::start(sandbox);
    let url = buckets.url();
    let variables = [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_REGION", "eu-test-1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret/of+s3"),
    ];
    sandbox.remove("f");
    let context = sandbox.context();
    let context = context.to_str().unwrap();
    let args = ["--output", "type=cacheonly"];
    sandbox.dockerfile("FROM scratch\nADD s3://private/deep/a+b /\n");
    let output = build(sandbox, &[&args[..], &[context]].concat(), &variables);
    assert!(
        !output.status.success() && buckets.log().is_empty(),
        "{output}"
    );
    let connection =
        format!("AccountName=account;AccountKey=a2V5IG9mIGF6dXJl;BlobEndpoint={url}/account");
    let azure = [("AZURE_STORAGE_CONNECTION_STRING", connection.as_str())];
    let blob = format!("{url}/account/container/c.tar.gz");
    sandbox.dockerfile(&format!("FROM scratch\nADD {blob} /\n"));
    build(sandbox, &[&args[..], &[context]].concat(), &azure)
        .failure(1)
        .says("403");
    // As a named context it is the caller's address.
    sandbox.dockerfile("FROM scratch\nCOPY --from=named f /\n");
    for (named, variables) in [
        (format!("named={blob}"), &azure[..]),
        (
            "named=s3://private/deep/a b+c.tar.gz".to_owned(),
            &variables,
        ),
    ] {
        let args = [&args[..], &["--build-context", &named, context]].concat();
        build(sandbox, &args, variables).success();
    }
}
