//! A token server, and a registry that wants its tokens: a front for a real registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use super::proxy::{Asked, Harm, Proxy, Reply};

/// How the front behaves.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// A token is good for so many requests.
    pub(crate) uses: usize,
    /// `expires_in` of an answer, if it is told.
    pub(crate) expires_in: Option<u64>,
    /// `user:password` that push needs. Reading needs none.
    pub(crate) login: String,
    /// The refresh token that is as good as the login.
    pub(crate) identity: String,
    /// Repositories that nobody may read to mount from.
    pub(crate) hidden: Vec<String>,
    /// Whether tokens are believed at all.
    pub(crate) believes: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            uses: usize::MAX,
            expires_in: None,
            login: "ali:open sesame".to_owned(),
            identity: "refresh me".to_owned(),
            hidden: Vec::new(),
            believes: true,
        }
    }
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    uses: usize,
}

/// What tokens were given for: each scope that was asked for, and how it was asked.
pub(crate) type Given = Arc<Mutex<Vec<(String, String)>>>;

/// A registry that wants tokens, at the proxy that is returned.
pub(crate) fn start(upstream: u16, manner: Manner) -> (Proxy, Given) {
    let proxy = Proxy::start(upstream);
    let given = Given::default();
    let log = Arc::clone(&given);
    let host = proxy.host();
    let mut tokens: HashMap<String, Token> = HashMap::new();
    proxy.rule(move |asked| {
        let reply = if let Some(query) = asked.path.strip_prefix("/token") {
            give(asked, query, &manner, &mut tokens, &log)
        } else {
            let wanted = wanted(asked);
            if manner.believes && allowed(asked, &wanted, &mut tokens) {
                return None;
            }
            let challenge = format!(
                "Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"{}\"",
                wanted.join(" ")
            );
            Reply::new(401)
                .header("WWW-Authenticate", challenge)
                .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"a token is wanted"}]}"#)
        };
        Some(Harm::Answer(reply))
    });
    (proxy, given)
}

/// The scopes that a request needs.
fn wanted(asked: &Asked) -> Vec<String> {
    let path = asked.path.trim_start_matches("/v2/");
    let Some(end) = ["/manifests/", "/blobs/"]
        .iter()
        .find_map(|part| path.find(part))
    else {
        return Vec::new();
    };
    let reads = asked.method == "GET" || asked.method == "HEAD";
    let access = if reads { "pull" } else { "pull,push" };
    let mut wanted = vec![format!("repository:{}:{access}", &path[..end])];
    if let Some((_, from)) = asked.path.split_once("from=") {
        let from = from
            .split('&')
            .next()
            .unwrap_or_default()
            .replace("%2F", "/");
        wanted.push(format!("repository:{from}:pull"));
    }
    wanted
}

/// True if a scope that was given covers one that is wanted.
fn covers(given: &str, wanted: &str) -> bool {
    let parts = |scope: &str| -> Option<(String, Vec<String>)> {
        let (name, access) = scope.rsplit_once(':')?;
        Some((
            name.to_owned(),
            access.split(',').map(str::to_owned).collect(),
        ))
    };
    match (parts(given), parts(wanted)) {
        (Some((name, access)), Some((wanted, needs))) => {
            name == wanted && needs.iter().all(|need| access.contains(need))
        }
        _ => false,
    }
}

fn allowed(asked: &Asked, wanted: &[String], tokens: &mut HashMap<String, Token>) -> bool {
    let token = asked.headers.get("authorization");
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token.and_then(|token| tokens.get_mut(token)) else {
        return false;
    };
    let covered = |wanted: &String| token.scopes.iter().any(|given| covers(given, wanted));
    if !wanted.iter().all(covered) || token.uses == 0 {
        return false;
    }
    token.uses -= 1;
    true
}

/// What the token server answers.
fn give(
    asked: &Asked,
    query: &str,
    manner: &Manner,
    tokens: &mut HashMap<String, Token>,
    log: &Given,
) -> Reply {
    let form = String::from_utf8_lossy(&asked.body).into_owned();
    let text = if asked.method == "POST" { &form } else { query };
    let fields: Vec<(String, String)> = text
        .trim_start_matches('?')
        .split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let basic = asked.headers.get("authorization").map(|value| {
        let text = value.trim_start_matches("Basic ");
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    });
    let known = match (&basic, field("refresh_token")) {
        (Some(basic), _) if *basic != manner.login => return Reply::new(401),
        (_, Some(token)) if *token != manner.identity => return Reply::new(401),
        (basic, token) => basic.is_some() || token.is_some(),
    };
    let how = match (asked.method.as_str(), &basic) {
        ("POST", _) => "identity",
        (_, Some(_)) => "password",
        _ => "anonymous",
    };
    let asked_for = fields.iter().filter(|(name, _)| name == "scope");
    let asked_for: Vec<String> = asked_for
        .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .filter(|scope| !scope.is_empty())
        .collect();
    // Servers leave out what is not granted rather than refuse.
    let scopes = asked_for.iter().filter_map(|scope| {
        let (name, access) = scope.rsplit_once(':')?;
        let repository = name.trim_start_matches("repository:");
        if manner.hidden.iter().any(|hidden| hidden == repository) {
            return None;
        }
        let access: Vec<&str> = access
            .split(',')
            .filter(|it| known || *it == "pull")
            .collect();
        Some(format!("{name}:{}", access.join(",")))
    });
    let token = format!("token-{}", tokens.len());
    let scopes = scopes.collect();
    let uses = manner.uses;
    tokens.insert(token.clone(), Token { scopes, uses });
    let mut given = log.lock().unwrap();
    for scope in &asked_for {
        given.push((scope.clone(), how.to_owned()));
    }
    let mut answer = serde_json::json!({ "token": token });
    if asked.method == "POST" {
        answer = serde_json::json!({ "access_token": token });
    }
    if let Some(seconds) = manner.expires_in {
        answer["expires_in"] = seconds.into();
    }
    Reply::new(200).body(answer.to_string())
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8(digits).unwrap_or_default();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
