//! The property `delivery=nats://…`: which servers, and who this endpoint is to them.
//!
//! What stands before the `@` is a secret. Nothing here prints it: neither `Display` nor `Debug`, nor an error about
//! a text that could not be read.

use super::NatsError;
use std::fmt;
use zeroize::Zeroizing;

/// Where nats-server listens unless told otherwise.
const PORT: u16 = 4222;

/// Stands in the place of a secret.
const HIDDEN: &str = "***";

/// Who this endpoint is to the servers, as far as the address says it.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) enum Login {
    /// The address says nothing.
    #[default]
    None,
    /// `token@`
    Token(Zeroizing<String>),
    /// `user:password@`
    Password(String, Zeroizing<String>),
}

/// `nats://…` or `tls://…`, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    /// Host and port of each.
    servers: Vec<String>,
    login: Login,
}

impl Address {
    /// Is it one of ours?
    pub fn is_one(text: &str) -> bool {
        ["nats:", "tls:"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Reads an address. Several servers stand behind each other with commas; each may repeat scheme and login.
    pub fn parse(text: &str) -> Result<Self, NatsError> {
        let mut address: Option<Self> = None;
        for part in text.split(',') {
            let (scheme, rest) = match part.split_once("://") {
                Some((scheme, rest)) => (Some(scheme), rest),
                None => (None, part),
            };
            let tls = match scheme {
                Some("nats") => Some(false),
                Some("tls") => Some(true),
                Some(_) => {
                    return Err(NatsError::Address(
                        "a server's scheme is neither nats:// nor tls://",
                    ));
                }
                None => None,
            };
            let (login, host) = match rest.rsplit_once('@') {
                Some((login, host)) => (Some(read_login(login)?), host),
                None => (None, rest),
            };
            let server = read_server(host)?;
            let Some(address) = &mut address else {
                let tls = tls.ok_or(NatsError::Address("it does not begin with nats:// or tls://"))?;
                address = Some(Self {
                    tls,
                    servers: vec![server],
                    login: login.unwrap_or_default(),
                });
                continue;
            };
            if tls.is_some_and(|tls| tls != address.tls) {
                return Err(NatsError::Address("nats:// and tls:// do not go together"));
            }
            if login.is_some_and(|login| login != address.login) {
                return Err(NatsError::Address("its servers have different passwords"));
            }
            if !address.servers.contains(&server) {
                address.servers.push(server);
            }
        }
        address.ok_or(NatsError::Address("it names no server"))
    }

    /// Must the connection be encrypted?
    pub fn tls(&self) -> bool {
        self.tls
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    /// Each server with its scheme, without the login.
    pub(super) fn urls(&self) -> impl Iterator<Item = String> {
        let scheme = self.scheme();
        self.servers
            .iter()
            .map(move |server| format!("{scheme}://{server}"))
    }

    /// The servers, for a sentence.
    pub(super) fn servers(&self) -> String {
        self.servers.join(" or ")
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "tls" } else { "nats" }
    }
}

/// The address, the login hidden.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match self.login {
            Login::None => "",
            Login::Token(_) | Login::Password(..) => "***@",
        };
        write!(f, "{}://{login}{}", self.scheme(), self.servers.join(","))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value of the property `delivery` for people to read: without what could be a password.
pub fn redacted(text: &str) -> String {
    if text.starts_with("sqlite:") || text == "app" {
        return text.into();
    }
    if Address::is_one(text) {
        // Where it cannot be read nobody knows which part of it is the password.
        return Address::parse(text).map_or_else(
            |_| format!("{}://{HIDDEN}", text.split(':').next().unwrap_or_default()),
            |address| address.to_string(),
        );
    }
    match text.rfind('@') {
        Some(at) => {
            let after_scheme = text.find("://").map_or(0, |colon| colon + 3);
            let scheme = if after_scheme <= at {
                &text[..after_scheme]
            } else {
                ""
            };
            format!("{scheme}{HIDDEN}{}", &text[at..])
        }
        None => text.into(),
    }
}

fn read_login(text: &str) -> Result<Login, NatsError> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => {
            Ok(Login::Password(decoded(user)?.to_string(), decoded(password)?))
        }
        None if !text.is_empty() => Ok(Login::Token(decoded(text)?)),
        _ => Err(NatsError::Address("there is nothing before the @ or the colon")),
    }
}

/// Percent-encoding (RFC 3986 §2.1) taken away.
fn decoded(text: &str) -> Result<Zeroizing<String>, NatsError> {
    const WRONG: NatsError = NatsError::Address(
        "user, password or token is not percent-encoded: in them, write % as %25, @ as %40, a comma as %2C, / as %2F",
    );
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(WRONG);
                let value = digit(*high)? * 16 + digit(*low)?;
                bytes.push(u8::try_from(value).map_err(|_| WRONG)?);
                rest = after;
            }
            (b'%' | b'/' | b'@' | b' ', _) => return Err(WRONG),
            _ => bytes.push(*first),
        }
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| WRONG)?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_server(text: &str) -> Result<String, NatsError> {
    const WRONG: NatsError = NatsError::Address("behind the @ or the scheme there is more than HOST:PORT");
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        // An IPv6 address.
        Some((host, port)) => {
            let allowed = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
            if host.is_empty() || !host.chars().all(allowed) {
                return Err(WRONG);
            }
            (
                format!("[{host}]"),
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            )
        }
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || !host.chars().all(allowed) {
                return Err(WRONG);
            }
            (host.to_owned(), Some(port))
        }
    };
    let port = match port.ok_or(WRONG)? {
        "" => PORT,
        port => match port.parse() {
            Ok(0) | Err(_) => return Err(NatsError::Address("a server's port is no number from 1 to 65535")),
            Ok(port) => port,
        },
    };
    Ok(format!("{host}:{port}"))
}
