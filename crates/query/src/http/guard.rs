//! Who may ask: a token, a header that a proxy sets, and links that last for hours.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Site;
use crate::{Error, Result, flight::Token};

/// How long a link to a video lasts.
const LINK_LASTS: Duration = Duration::from_hours(2);

/// Letters of a name that are kept.
const MOST_LETTERS: usize = 200;

/// What a request must show. Nothing is for a machine of one's own: then only local names of the host do.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Given as `Authorization: Bearer TOKEN`.
    token: Option<Token>,
    /// The name of a header that a proxy sets, such as `x-forwarded-user`, once it knows who asks.
    header: Option<HeaderName>,
}

impl Guard {
    /// A guard that asks for all that is given.
    ///
    /// # Errors
    /// [`Error::WeakToken`]; [`Error::HeaderName`] where no header can have this name.
    pub fn new(token: Option<&str>, header: Option<&str>) -> Result<Self> {
        let named = |name: &str| {
            let wrong = || Error::HeaderName { name: name.to_owned() };
            HeaderName::try_from(name).map_err(|_| wrong())
        };
        Ok(Self {
            token: token.map(Token::new).transpose()?,
            header: header.map(named).transpose()?,
        })
    }

    /// Whether anybody who reaches the address is answered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.header.is_none()
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        self.has_header(headers) && self.token.as_ref().is_none_or(|token| bears(headers, token))
    }

    /// The name that the proxy gives, else what they have shown.
    fn who(&self, headers: &HeaderMap) -> Who {
        let named = self.header.as_ref().and_then(|name| headers.get(name));
        let name = named.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let unnamed = if self.token.is_some() { "token" } else { "local" };
        Who(name.map_or(unnamed.to_owned(), |name| name.chars().take(MOST_LETTERS).collect()))
    }

    fn has_header(&self, headers: &HeaderMap) -> bool {
        let has = |name: &HeaderName| headers.get(name).is_some_and(|value| !value.is_empty());
        self.header.as_ref().is_none_or(has)
    }

    /// Whether the request names a host that is this one. Where nothing else is asked for, a name from
    /// elsewhere that leads here may be another site's trick.
    pub(super) fn knows_host(&self, headers: &HeaderMap) -> bool {
        if !self.is_open() {
            return true;
        }
        let host =
            headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, port)| {
            if port.bytes().all(|digit| digit.is_ascii_digit()) { name } else { host }
        });
        let name = name.trim_matches(['[', ']']);
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok()
    }

    /// What follows the path of a video for it to be played by whoever has the link.
    pub(super) fn link(&self, video_id: &str) -> String {
        let Some(token) = &self.token else { return String::new() };
        let expires = seconds_now() + LINK_LASTS.as_secs();
        format!("?expires={expires}&signature={}", signature(token.text(), video_id, expires))
    }

    /// Whether a video may be played by this link.
    pub(super) fn admits_link(
        &self,
        headers: &HeaderMap,
        video_id: &str,
        expires: Option<u64>,
        signed: Option<&str>,
    ) -> bool {
        let Some(token) = &self.token else { return self.has_header(headers) };
        let (Some(expires), Some(signed)) = (expires, signed) else { return false };
        let right = signature(token.text(), video_id, expires);
        expires >= seconds_now() && bool::from(right.as_bytes().ct_eq(signed.as_bytes()))
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// HMAC-SHA-256 of the video and the moment, in hexadecimal digits.
fn signature(token: &str, video_id: &str, expires: u64) -> String {
    let key = Sha256::digest(token.as_bytes());
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36));
    let inner = inner.chain_update(format!("{video_id} {expires}")).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    HEXLOWER.encode(&outer)
}

fn bears(headers: &HeaderMap, token: &Token) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|given| token.is(given.trim()))
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Who(pub(super) String);

/// Lets who may ask pass, with their name.
pub(super) async fn admit(
    State(site): State<Arc<Site>>,
    mut request: Request,
    next: Next,
) -> Response {
    let guard = &site.served.guard;
    if guard.admits(request.headers()) {
        let who = guard.who(request.headers());
        request.extensions_mut().insert(who);
    } else {
        let error = axum::Json(serde_json::json!({ "error": "a token is needed" }));
        let how = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, how, error).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_is_let_in() {
        let guard = Guard::new(Some(TOKEN), None).unwrap();
        assert!(guard.admits(&headers("authorization", &format!("Bearer {TOKEN}"))));
        assert!(!guard.admits(&headers("authorization", "Bearer 0123456789abcde")));
        assert!(!guard.admits(&headers("authorization", TOKEN)));
        assert!(!guard.admits(&HeaderMap::new()));
    }

    #[test]
    fn only_who_the_proxy_knows_is_let_in() {
        let guard = Guard::new(None, Some("X-Forwarded-User")).unwrap();
        assert!(guard.admits(&headers("x-forwarded-user", "ada")));
        assert!(
            !guard.admits(&headers("x-forwarded-user", "")) && !guard.admits(&HeaderMap::new())
        );
    }

    #[test]
    fn weak_tokens_and_impossible_headers_are_refused() {
        assert!(matches!(Guard::new(Some("short"), None), Err(Error::WeakToken { .. })));
        assert!(matches!(Guard::new(None, Some("for warded")), Err(Error::HeaderName { .. })));
    }

    #[test]
    fn a_link_is_for_one_video_and_for_hours() {
        let guard = Guard::new(Some(TOKEN), None).unwrap();
        let soon = seconds_now() + 60;
        let signed = signature(TOKEN, "a", soon);
        let admits = |video: &str, expires| {
            guard.admits_link(&HeaderMap::new(), video, expires, Some(&signed))
        };
        assert!(admits("a", Some(soon)));
        assert!(!admits("b", Some(soon)) && !admits("a", Some(soon + 1)) && !admits("a", None));
        let old = signature(TOKEN, "a", 1);
        assert!(!guard.admits_link(&HeaderMap::new(), "a", Some(1), Some(&old)));
    }

    #[test]
    fn without_a_token_only_local_names_are_known() {
        let known = |host: &str| Guard::default().knows_host(&headers("host", host));
        assert!(known("127.0.0.1:8080") && known("localhost") && known("[::1]:80"));
        assert!(!known("evil.example:8080"));
    }
}
