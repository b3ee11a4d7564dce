//! Who may ask: a token, a header that a proxy sets, and links that last for hours.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Site;

/// How long a link to a video lasts.
const LINK_LASTS: Duration = Duration::from_hours(2);

/// What a request must show. Neither is for a machine of one's own: then only local names of the host do.
#[derive(Clone, Default)]
pub struct Guard {
    /// Given as `Authorization: Bearer TOKEN`.
    pub token: Option<String>,
    /// The name of a header that a proxy sets, such as `x-forwarded-user`, once it knows who asks.
    pub header: Option<String>,
}

impl std::fmt::Debug for Guard {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Guard {
    /// Whether anybody who reaches the address is answered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.header.is_none()
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        self.has_header(headers) && self.token.as_deref().is_none_or(|token| bears(headers, token))
    }

    fn has_header(&self, headers: &HeaderMap) -> bool {
        let has = |name: &String| headers.get(name).is_some_and(|value| !value.is_empty());
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
        format!("?expires={expires}&signature={}", signature(token, video_id, expires))
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
        let right = signature(token, video_id, expires);
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

fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(given) = given.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
    // Digests are of one length, whatever was given.
    let (given, right) = (Sha256::digest(given.trim()), Sha256::digest(token));
    given.ct_eq(&right).into()
}

/// Lets who may ask pass.
pub(super) async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if !site.served.guard.admits(request.headers()) {
        let error = axum::Json(serde_json::json!({ "error": "a token is needed" }));
        let how = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, how, error).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_token_is_let_in() {
        let guard = Guard { token: Some("secret".to_owned()), header: None };
        assert!(guard.admits(&headers("authorization", "Bearer secret")));
        assert!(!guard.admits(&headers("authorization", "Bearer secre")));
        assert!(!guard.admits(&headers("authorization", "secret")));
        assert!(!guard.admits(&HeaderMap::new()));
    }

    #[test]
    fn a_link_is_for_one_video_and_for_hours() {
        let guard = Guard { token: Some("secret".to_owned()), header: None };
        let soon = seconds_now() + 60;
        let signed = signature("secret", "a", soon);
        let admits = |video: &str, expires| {
            guard.admits_link(&HeaderMap::new(), video, expires, Some(&signed))
        };
        assert!(admits("a", Some(soon)));
        assert!(!admits("b", Some(soon)) && !admits("a", Some(soon + 1)) && !admits("a", None));
        let old = signature("secret", "a", 1);
        assert!(!guard.admits_link(&HeaderMap::new(), "a", Some(1), Some(&old)));
    }

    #[test]
    fn without_a_token_only_local_names_are_known() {
        let known = |host: &str| Guard::default().knows_host(&headers("host", host));
        assert!(known("127.0.0.1:8080") && known("localhost") && known("[::1]:80"));
        assert!(!known("evil.example:8080"));
    }
}
