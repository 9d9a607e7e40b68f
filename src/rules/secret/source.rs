//! Pure. Decides which values of an environment are secret: by the variable's name, or by a password in a URL.

use serde_json::Value;

use super::MIN_VALUE_BYTES;
use super::spelling::percent_decoded;

/// Parts of the names of variables that hold secrets.
const WORDS: [&str; 16] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "CREDENTIAL",
    "WEBHOOK",
    "COOKIE",
    "AUTHORIZATION",
    "BEARER",
    "DATABASE_URL",
    "CONNECTION_STRING",
];
/// Ends of such names; behind one of them nothing but a number may stand.
const ENDS: [&str; 12] = [
    "_KEY",
    "_KEYS",
    "_PAT",
    "_PASS",
    "_PWD",
    "_AUTH",
    "_DSN",
    "_JWT",
    "_CREDS",
    "_SIGNATURE",
    "_HOOK",
    "_HOOK_URL",
];
/// Whole names of this kind.
const NAMES: [&str; 6] = ["KEY", "PASS", "AUTH", "DSN", "JWT", "PAT"];
/// Beginnings of names that a service uses for secrets, and ends of those names that are none.
const SERVICE: &str = "SLACK_";
const PUBLIC_ENDS: [&str; 8] =
    ["CHANNEL", "CHANNEL_ID", "USER", "USERNAME", "NAME", "TEAM", "TEAM_ID", "EMOJI"];
/// The shortest line of a multi-line secret that is searched for by itself, in bytes.
const MIN_LINE_BYTES: usize = 16;
/// The shortest user name in a URL without a password that counts as a token, in bytes.
const MIN_USER_BYTES: usize = 20;
/// How deep a JSON value is searched.
const MAX_DEPTH: usize = 8;

/// Returns `[name, value]` of each secret of an environment, unsorted.
pub(super) fn values(env: &[(String, String)], is_path: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in env {
        let mut add = |value: &str| found.push((name.clone(), value.to_owned()));
        if is_secret_name(name) && !(value.starts_with('/') && is_path(value)) {
            whole(value, &mut add);
        }
        address(value, &mut add);
    }
    found.retain(|(_, value)| value.len() >= MIN_VALUE_BYTES);
    found
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
    WORDS.iter().any(|word| name.contains(word))
        || ENDS.iter().any(|end| stem.ends_with(end))
        || NAMES.contains(&stem)
        || (name.starts_with(SERVICE) && !PUBLIC_ENDS.iter().any(|end| name.ends_with(end)))
}

/// Adds a secret value, and those parts of it that may occur alone in a text.
fn whole(value: &str, add: &mut impl FnMut(&str)) {
    add(value);
    let trimmed = value.trim();
    if trimmed != value {
        add(trimmed);
    }
    if trimmed.contains('\n') {
        let lines = trimmed.lines().map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES);
        lines.filter(|line| !line.starts_with("-----")).for_each(&mut *add);
    }
    if let Ok(Value::Object(map)) = serde_json::from_str(trimmed) {
        within(&Value::Object(map), false, MAX_DEPTH, add);
    }
}

/// Adds the strings of a JSON value whose keys mark them as secret.
fn within(value: &Value, is_secret: bool, depth: usize, add: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) if is_secret => whole(text, add),
        Value::Array(items) if depth > 0 => {
            items.iter().for_each(|item| within(item, is_secret, depth - 1, add))
        }
        Value::Object(map) if depth > 0 => {
            map.iter().for_each(|(key, item)| within(item, is_secret_name(key), depth - 1, add));
        }
        _ => {}
    }
}

/// Adds the secrets in a URL: a password, a token in place of the user, secret parameters.
fn address(value: &str, add: &mut impl FnMut(&str)) {
    let Some((_, rest)) = value.split_once("://") else { return };
    let until = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // Some passwords contain `@` and `/`, so that a URL can be read in two ways.
    let mut ends: Vec<usize> = [rest[..until].rfind('@'), rest.rfind('@')].into_iter().flatten().collect();
    ends.dedup();
    for user in ends.into_iter().map(|end| &rest[..end]) {
        match user.split_once(':') {
            Some((_, password)) => {
                spellings(password, add);
                if password.len() < MIN_VALUE_BYTES && !password.is_empty() {
                    // The password alone is too short to be searched for.
                    let host = rest[user.len()..].split(['/', '?', '#']).next().unwrap_or_default();
                    add(&format!(":{password}{host}"));
                }
            }
            None if user.len() >= MIN_USER_BYTES => spellings(user, add),
            None => {}
        }
    }
    let parameters = rest.split_once('?').map_or("", |(_, query)| query);
    for (key, value) in parameters.split(['&', '#', ';']).filter_map(|part| part.split_once('=')) {
        if is_secret_name(key) {
            spellings(value, add);
        }
    }
}

/// Adds a part of a URL as written, and decoded.
fn spellings(text: &str, add: &mut impl FnMut(&str)) {
    add(text);
    percent_decoded(text).iter().for_each(|decoded| add(decoded));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Vec<String> {
        let env = [(name.to_owned(), value.to_owned())];
        let mut all: Vec<String> =
            values(&env, &|path| path == "/is/there").into_iter().map(|pair| pair.1).collect();
        all.sort();
        all
    }

    #[test]
    fn names_mark_secrets() {
        for name in [
            "GH_TOKEN",
            "SSH_PASSPHRASE",
            "DATABASE_URL",
            "STAGING_DATABASE_URL",
            "DEPLOY_WEBHOOK",
            "SENTRY_DSN",
            "AWS_CREDENTIALS",
            "GITHUB_PAT",
            "SIGNING_KEY",
            "API_KEY_2",
            "REGISTRY_AUTH",
            "PGPASSWORD",
            "SESSION_COOKIE",
            "SLACK_URL",
            "SLACK_BOT",
            "MYSQL_PWD",
            "slack_webhook_url",
            "db-password",
            "KEY",
            "PASS",
            "AUTH",
            "DSN",
            "JWT",
            "PAT",
            "HTTP_AUTHORIZATION",
            "DB_PASSWD_FOR_CI",
            "MAPS_APIKEY",
            "OPENAI_API_KEY_OF_CI",
            "AWS_ACCESS_KEY_ID",
            "BEARER_OF_CI",
            "MONGO_CONNECTION_STRING",
            "SIGNING_KEYS",
            "DB_PASS",
            "SESSION_JWT",
            "CLOUD_CREDS",
            "SITE_COOKIES",
            "REQUEST_SIGNATURE",
            "DEPLOY_HOOK",
            "DEPLOY_HOOK_URL",
        ] {
            assert_eq!(of(name, "long-enough-value"), ["long-enough-value"], "{name}");
        }
        for name in [
            "EDITOR",
            "OLDPWD",
            "PWD",
            "SSH_AUTH_SOCK",
            "GIT_ASKPASS",
            "KEYBOARD",
            "SLACK_CHANNEL",
            "COMPASS",
            "MONKEY",
        ] {
            assert_eq!(of(name, "long-enough-value"), [] as [&str; 0], "{name}");
        }
    }

    #[test]
    fn the_path_of_an_existing_file_is_exempt() {
        assert_eq!(of("KEY_TOKEN", "/is/there"), [] as [&str; 0]);
        assert_eq!(of("A_TOKEN", "/not/there"), ["/not/there"]);
        assert_eq!(of("A_TOKEN", "//begins+like=a/path"), ["//begins+like=a/path"]);
        assert_eq!(of("A_WEBHOOK", "https://hooks.example/T0/B0"), ["https://hooks.example/T0/B0"]);
        assert_eq!(of("API_URL", "https://api.example/v1"), [] as [&str; 0], "a URL is not a secret");
    }

    #[test]
    fn the_password_of_a_url_is_secret_in_any_variable() {
        assert_eq!(of("STORE", "redis://:p4ssw0rd-1@host:6379/0"), ["p4ssw0rd-1"]);
        assert_eq!(of("PROXY", "http://ada:p%40ss%2Fword@host:1"), ["p%40ss%2Fword", "p@ss/word"]);
        assert_eq!(of("PROXY", "http://ada:p@ss/w?rd#1@host"), ["p@ss/w?rd#1"]);
        assert_eq!(of("STORE", "amqp://ada:short@host/vhost"), [":short@host"]);
        assert_eq!(of("REMOTE", "https://0123456789abcdef0123@host/x"), ["0123456789abcdef0123"]);
        assert_eq!(of("REMOTE", "https://git@host/some/repo"), [] as [&str; 0]);
        assert_eq!(of("PAGE", "https://host/@ada/x"), [] as [&str; 0]);
        let in_query = of("STORE", "https://host/x?user=ada&password=hunter2%2Bhunter2#a");
        assert_eq!(in_query, ["hunter2%2Bhunter2", "hunter2+hunter2"]);
        let whole = "postgres://ada:p4ssw0rd@host/db";
        assert_eq!(of("DATABASE_URL", whole), ["p4ssw0rd", whole]);
    }

    #[test]
    fn parts_of_a_longer_secret_are_secret() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\n-----END PRIVATE KEY-----\n";
        assert!(of("APP_KEY", pem).contains(&"MIIEvQIBADANBgkqhkiG9w0B".to_owned()));
        assert!(!of("APP_KEY", pem).iter().any(|part| part.starts_with("short")));
        let json = r#"{"type":"service_account","private_key_id":"0123456789","a":[{"client_secret":"hidden-deep"}]}"#;
        let found = of("GOOGLE_CREDENTIALS", json);
        let has =
            ["hidden-deep", "0123456789", "service_account"].map(|part| found.contains(&part.to_owned()));
        assert_eq!(has, [true, true, false], "{found:?}");
        assert!(of("A_TOKEN", "0123456789\n").contains(&"0123456789".to_owned()));
    }
}
