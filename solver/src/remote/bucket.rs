//! Objects of S3, Google Cloud Storage and Azure Blob Storage, as one GET that the environment's credentials sign.
//!
//! An address stays what it was written as everywhere else: in names, in what is kept of it, in errors. Only here it becomes
//! a URL with headers, and only for addresses of the command line: what a Dockerfile names must not open what
//! only its user may see.
//!
//! Followed are "Signature Version 4" of AWS, RFC 6750 for Google's tokens, and "Authorize with Shared Key" of Azure.

use base64::Engine as _;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::RemoteError;

/// How an object is asked for.
pub(super) struct Asked {
    pub(super) url: String,
    /// Headers for the URL's own server, and no other.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// What is known of the object already, and asked of the server with it.
#[derive(Clone, Copy, Default)]
pub(super) struct Condition<'a> {
    pub(super) etag: Option<&'a str>,
    pub(super) last_modified: Option<&'a str>,
}

/// A look-up of environment variables; empty ones are not there.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of this process.
pub(super) fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether `text` begins as an address of a bucket does.
pub(super) fn is_address(text: &str) -> bool {
    split(text).is_some()
}

/// Scheme, bucket and key of `s3://bucket/key` or `gs://bucket/key`.
fn split(text: &str) -> Option<(&'static str, &str, &str)> {
    let (scheme, rest) = if let Some(rest) = text.strip_prefix("s3://") {
        ("s3", rest)
    } else {
        ("gs", text.strip_prefix("gs://")?)
    };
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    Some((scheme, bucket, key))
}

/// What is wrong with an address of a bucket.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let Some((_, bucket, key)) = split(text) else {
        return Ok(());
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if bucket.is_empty() || !bucket.bytes().all(letter) || bucket.starts_with('.') {
        return Err("that is no name of a bucket");
    }
    if key.is_empty() || key.ends_with('/') {
        return Err("a context is one object: an archive or a Dockerfile");
    }
    if key.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("a key has no control characters");
    }
    Ok(())
}

/// How the object at `address` is asked for, if it is one that the environment has a say in.
pub(super) fn request(
    address: &str,
    condition: Condition<'_>,
    variables: Variables<'_>,
    now: Timestamp,
) -> Result<Option<Asked>, RemoteError> {
    let asked = match split(address) {
        Some(("s3", bucket, key)) => s3(bucket, key, variables, now).map(Some),
        Some((_, bucket, key)) => Ok(Some(gcs(bucket, key, variables))),
        None => azure(address, condition, variables, now),
    };
    asked.map_err(|reason| RemoteError::Credentials {
        address: strata_image::fetch::shown(address),
        reason,
    })
}

fn s3(bucket: &str, key: &str, variables: Variables<'_>, now: Timestamp) -> Result<Asked, String> {
    let region = variables("AWS_REGION").or_else(|| variables("AWS_DEFAULT_REGION"));
    let endpoint = variables("AWS_ENDPOINT_URL_S3").or_else(|| variables("AWS_ENDPOINT_URL"));
    let path = encode(key);
    let url = match (endpoint, &region) {
        (Some(endpoint), _) => {
            let endpoint = endpoint.trim_end_matches('/');
            if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
                return Err(format!("the endpoint `{endpoint}` is no http(s) URL"));
            }
            format!("{endpoint}/{bucket}/{path}")
        }
        (None, region) => {
            let domain = match region.as_deref() {
                None => "s3.amazonaws.com".to_owned(),
                Some(region) if region.starts_with("cn-") => {
                    format!("s3.{region}.amazonaws.com.cn")
                }
                Some(region) => format!("s3.{region}.amazonaws.com"),
            };
            // No certificate of the service covers a name with dots.
            if bucket.contains('.') {
                format!("https://{domain}/{bucket}/{path}")
            } else {
                format!("https://{bucket}.{domain}/{path}")
            }
        }
    };
    let (id, secret) = match (
        variables("AWS_ACCESS_KEY_ID"),
        variables("AWS_SECRET_ACCESS_KEY"),
    ) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => {
            return Ok(Asked {
                url,
                headers: Vec::new(),
            });
        }
        (Some(_), None) => return Err("AWS_SECRET_ACCESS_KEY is not set".to_owned()),
        (None, Some(_)) => return Err("AWS_ACCESS_KEY_ID is not set".to_owned()),
    };
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let (host, path) = host_and_path(&url);
    let mut headers = vec![
        ("host", host),
        ("x-amz-content-sha256", hex(&Sha256::digest(b""))),
        ("x-amz-date", stamp.clone()),
    ];
    headers.extend(variables("AWS_SESSION_TOKEN").map(|token| ("x-amz-security-token", token)));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    let authorization = version_4(&headers, &path, &stamp, &region, (&id, &secret));
    // The client sets that one itself.
    headers.remove(0);
    headers.push(("authorization", authorization));
    Ok(Asked { url, headers })
}

/// `Authorization` of a GET without query and body; `headers` are sorted.
fn version_4(
    headers: &[(&'static str, String)],
    path: &str,
    stamp: &str,
    region: &str,
    (id, secret): (&str, &str),
) -> String {
    let mut canonical = format!("GET\n{path}\n\n");
    let mut payload = "";
    for (name, value) in headers {
        canonical.extend([*name, ":", value.trim(), "\n"]);
        if *name == "x-amz-content-sha256" {
            payload = value;
        }
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    canonical.extend(["\n", &names, "\n", payload]);
    let day = &stamp[..8];
    let scope = format!("{day}/{region}/s3/aws4_request");
    let digest = hex(&Sha256::digest(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, region, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes()).to_vec();
    }
    let signature = hex(&hmac(&key, text.as_bytes()));
    format!("AWS4-HMAC-SHA256 Credential={id}/{scope},SignedHeaders={names},Signature={signature}")
}

fn gcs(bucket: &str, key: &str, variables: Variables<'_>) -> Asked {
    let endpoint = match variables("STORAGE_EMULATOR_HOST") {
        Some(host) if host.contains("://") => host.trim_end_matches('/').to_owned(),
        Some(host) => format!("http://{host}"),
        None => "https://storage.googleapis.com".to_owned(),
    };
    let token = variables("GOOGLE_OAUTH_ACCESS_TOKEN");
    Asked {
        url: format!("{endpoint}/{bucket}/{}", encode(key)),
        headers: token
            .map(|token| ("authorization", format!("Bearer {token}")))
            .into_iter()
            .collect(),
    }
}

/// A storage account of Azure.
#[derive(Default)]
struct Account {
    name: String,
    key: Option<String>,
    token: Option<String>,
}

fn azure(
    url: &str,
    condition: Condition<'_>,
    variables: Variables<'_>,
    now: Timestamp,
) -> Result<Option<Asked>, String> {
    let Some(account) = account(url, variables) else {
        return Ok(None);
    };
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, query),
        None => (url, ""),
    };
    // It says itself what it may be read with.
    if query.split('&').any(|pair| pair.starts_with("sig=")) {
        return Ok(None);
    }
    if let Some(token) = account.token {
        let token = token.trim_start_matches('?');
        let query = if query.is_empty() {
            token.to_owned()
        } else {
            format!("{query}&{token}")
        };
        return Ok(Some(Asked {
            url: format!("{before}?{query}"),
            headers: Vec::new(),
        }));
    }
    let Some(key) = account.key else {
        return Ok(None);
    };
    let key = base64::engine::general_purpose::STANDARD
        .decode(key.trim())
        .map_err(|_| "the account's key is not base64".to_owned())?;
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let (_, path) = host_and_path(before);
    let mut resource = format!("/{}{path}", account.name);
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_ascii_lowercase(), super::web::decode(value))
        })
        .collect();
    pairs.sort();
    for (name, value) in pairs {
        resource.extend(["\n", &name, ":", &value]);
    }
    let text = format!(
        "GET\n\n\n\n\n\n\n{}\n\n{}\n\n\nx-ms-date:{date}\nx-ms-version:{AZURE}\n{resource}",
        condition.last_modified.unwrap_or_default(),
        condition.etag.unwrap_or_default(),
    );
    let signature = base64::engine::general_purpose::STANDARD.encode(hmac(&key, text.as_bytes()));
    Ok(Some(Asked {
        url: url.to_owned(),
        headers: vec![
            ("x-ms-date", date),
            ("x-ms-version", AZURE.to_owned()),
            (
                "authorization",
                format!("SharedKey {}:{signature}", account.name),
            ),
        ],
    }))
}

/// The version of Azure's protocol that is spoken.
const AZURE: &str = "2021-08-06";

/// The account that a URL is of, and what the environment has for it.
fn account(url: &str, variables: Variables<'_>) -> Option<Account> {
    if let Some(text) = variables("AZURE_STORAGE_CONNECTION_STRING") {
        let field = |wanted: &str| {
            text.split(';').find_map(|field| {
                let (name, value) = field.split_once('=')?;
                name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
            })
        };
        let name = field("AccountName").unwrap_or_default();
        let endpoint = field("BlobEndpoint").unwrap_or_else(|| {
            let suffix = field("EndpointSuffix");
            let suffix = suffix.as_deref().unwrap_or("core.windows.net");
            format!("https://{name}.blob.{suffix}")
        });
        let endpoint = endpoint.trim_end_matches('/');
        if url.strip_prefix(endpoint)?.starts_with('/') {
            return Some(Account {
                name,
                key: field("AccountKey"),
                token: field("SharedAccessSignature"),
            });
        }
        return None;
    }
    let host = url.strip_prefix("https://")?.split('/').next()?;
    let (name, domain) = host.split_once('.')?;
    let ours = [
        "blob.core.windows.net",
        "blob.core.usgovcloudapi.net",
        "blob.core.chinacloudapi.cn",
    ];
    ours.contains(&domain).then(|| Account {
        name: name.to_owned(),
        key: variables("AZURE_STORAGE_ACCESS_KEY").or_else(|| variables("AZURE_STORAGE_KEY")),
        token: variables("AZURE_STORAGE_SAS_TOKEN"),
    })
}

/// `Host` as it is sent, and the path.
fn host_and_path(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(port).unwrap_or(host);
    (host.to_ascii_lowercase(), path.to_owned())
}

/// A key as the path of a URL.
fn encode(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.extend([format!("%{byte:02X}")]);
        }
    }
    path
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text);
    let outer = Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner.finalize());
    outer.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn ask(address: &str, variables: &[(&str, &str)]) -> Asked {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let asked = request(address, Condition::default(), &lookup, at(1_369_353_600));
        asked.unwrap().unwrap()
    }

    /// RFC 4231, cases 1, 2 and 6.
    #[test]
    fn hmac_is_that_of_the_rfc() {
        for (key, text, expected) in [
            (
                vec![0x0b; 20],
                "Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe".to_vec(),
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex(&hmac(&key, text.as_bytes())), expected);
        }
    }

    /// The published example of a GET, which has a further header.
    #[test]
    fn version_4_gives_the_signature_that_aws_has_published() {
        let headers = [
            ("host", "examplebucket.s3.amazonaws.com".to_owned()),
            ("range", "bytes=0-9".to_owned()),
            ("x-amz-content-sha256", hex(&Sha256::digest(b""))),
            ("x-amz-date", "20130524T000000Z".to_owned()),
        ];
        let keys = (
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        );
        let found = version_4(&headers, "/test.txt", "20130524T000000Z", "us-east-1", keys);
        assert_eq!(
            found,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn objects_of_s3_have_a_host_of_their_bucket_or_a_path() {
        for (address, variables, url) in [
            ("s3://b/k", &[][..], "https://b.s3.amazonaws.com/k"),
            (
                "s3://b/d/a b+.tgz",
                &[("AWS_REGION", "eu-west-3")],
                "https://b.s3.eu-west-3.amazonaws.com/d/a%20b%2B.tgz",
            ),
            (
                "s3://b/k",
                &[("AWS_DEFAULT_REGION", "cn-north-1")],
                "https://b.s3.cn-north-1.amazonaws.com.cn/k",
            ),
            (
                "s3://a.b/k",
                &[("AWS_REGION", "eu-west-3")],
                "https://s3.eu-west-3.amazonaws.com/a.b/k",
            ),
            (
                "s3://b/k",
                &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")],
                "http://127.0.0.1:9000/b/k",
            ),
            (
                "s3://b/k",
                &[
                    ("AWS_ENDPOINT_URL", "http://other"),
                    ("AWS_ENDPOINT_URL_S3", "http://s3"),
                ],
                "http://s3/b/k",
            ),
            (
                "gs://b/d/ä",
                &[],
                "https://storage.googleapis.com/b/d/%C3%A4",
            ),
            (
                "gs://b/k",
                &[("STORAGE_EMULATOR_HOST", "localhost:1")],
                "http://localhost:1/b/k",
            ),
            (
                "gs://b/k",
                &[("STORAGE_EMULATOR_HOST", "https://localhost:1/")],
                "https://localhost:1/b/k",
            ),
        ] {
            let asked = ask(address, variables);
            assert_eq!(asked.url, url);
            assert!(asked.headers.is_empty(), "{address}: anonymous");
        }
        let asked = ask("gs://b/k", &[("GOOGLE_OAUTH_ACCESS_TOKEN", "t")]);
        assert_eq!(asked.headers, [("authorization", "Bearer t".to_owned())]);
        let asked = ask(
            "s3://b/k",
            &[
                ("AWS_ACCESS_KEY_ID", "i"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
                ("AWS_SESSION_TOKEN", "t"),
            ],
        );
        let names: Vec<&str> = asked.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "x-amz-content-sha256",
                "x-amz-date",
                "x-amz-security-token",
                "authorization"
            ]
        );
        assert_eq!(asked.headers[1].1, "20130524T000000Z");
    }

    #[test]
    fn half_of_the_credentials_and_wrong_ones_are_told_without_them() {
        for (address, variables, part) in [
            (
                "s3://b/k",
                &[("AWS_ACCESS_KEY_ID", "geheim")][..],
                "AWS_SECRET_ACCESS_KEY",
            ),
            (
                "s3://b/k",
                &[("AWS_SECRET_ACCESS_KEY", "geheim")],
                "AWS_ACCESS_KEY_ID",
            ),
            (
                "s3://b/k",
                &[("AWS_ENDPOINT_URL", "localhost:1")],
                "localhost:1",
            ),
            (
                "https://a.blob.core.windows.net/c/b",
                &[("AZURE_STORAGE_ACCESS_KEY", "ge heim!")],
                "base64",
            ),
        ] {
            let lookup = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let error = request(address, Condition::default(), &lookup, at(0))
                .err()
                .unwrap();
            let text = error.to_string();
            assert!(text.contains(part) && text.contains(address), "{text}");
            assert!(!text.contains("heim"), "{text}");
        }
    }

    #[test]
    fn a_url_of_azure_is_signed_only_if_there_is_something_to_sign_with() {
        let url = "https://acct.blob.core.windows.net/c/b";
        let none = |url: &str, variables: &[(&str, &str)]| {
            let lookup = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            request(url, Condition::default(), &lookup, at(0))
                .unwrap()
                .is_none()
        };
        let key = ("AZURE_STORAGE_ACCESS_KEY", "a2V5");
        assert!(none(url, &[]));
        assert!(none("https://other.example/c/b", &[key]));
        assert!(none("http://acct.blob.core.windows.net/c/b", &[key]));
        assert!(none("https://acct.blob.core.windows.net.evil/c/b", &[key]));
        assert!(none("https://evil/acct.blob.core.windows.net/b", &[key]));
        assert!(none(&format!("{url}?sv=1&sig=x"), &[key]));
        let text = "AccountName=dev;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:1/dev";
        let connection = ("AZURE_STORAGE_CONNECTION_STRING", text);
        assert!(none(url, &[connection]));
        assert!(none("http://127.0.0.1:1/developers/c/b", &[connection]));
        let asked = ask("http://127.0.0.1:1/dev/c/b", &[connection]);
        assert!(asked.headers[2].1.starts_with("SharedKey dev:"));
        assert_eq!(asked.headers[0].1, "Fri, 24 May 2013 00:00:00 GMT");
        let asked = ask(url, &[("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=x")]);
        assert_eq!(asked.url, format!("{url}?sv=1&sig=x"));
        assert!(asked.headers.is_empty());
    }

    #[test]
    fn an_address_has_a_bucket_and_a_key() {
        for text in [
            "s3://",
            "s3://b",
            "s3://b/",
            "s3:///k",
            "gs://b/d/",
            "s3://a b/k",
            "gs://..x/k",
        ] {
            assert!(is_address(text) && check(text).is_err(), "{text}");
        }
        for text in ["s3://b/k", "gs://b-1.x_y/d/k.tar.gz"] {
            assert!(check(text).is_ok(), "{text}");
        }
        assert!(!is_address("S3://b/k") && !is_address("./s3:/b"));
    }
}
