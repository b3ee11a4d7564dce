//! Who may ask: those who have the token, as `Bearer TOKEN`, or as the password of any name in `Basic`.

use std::sync::Arc;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Request, Status, metadata::MetadataMap};

use crate::{Error, Result};

/// Characters that a token must have.
const LEAST: usize = 16;

/// What clients must have. It is never printed.
#[derive(Clone)]
pub struct Token {
    text: Arc<str>,
    digest: [u8; 32],
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// A token; space around it, as at the end of a file, is none of it.
    ///
    /// # Errors
    /// [`Error::WeakToken`] where it is shorter than 16 characters, or has others than visible ASCII.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::WeakToken { least: LEAST });
        }
        Ok(Self { text: text.into(), digest: Sha256::digest(text).into() })
    }

    /// The token itself, for the header of whoever has shown that they have it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Lets a request through that shows the token.
    pub(super) fn admit(&self, request: Request<()>) -> std::result::Result<Request<()>, Status> {
        match shown(request.metadata()) {
            None => Err(Status::unauthenticated("no token: send `authorization: Bearer TOKEN`")),
            Some(text) if self.is(&text) => Ok(request),
            Some(_) => Err(Status::unauthenticated("wrong token")),
        }
    }

    /// Takes the same time whatever is wrong with `text`.
    pub(crate) fn is(&self, text: &str) -> bool {
        Sha256::digest(text).as_slice().ct_eq(&self.digest).into()
    }
}

/// What a request shows: its bearer token or its password.
fn shown(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(value.trim().as_bytes()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const TOKEN: &str = "0123456789abcdef";

    #[rstest]
    #[case::bearer("Bearer 0123456789abcdef", true)]
    #[case::small_letters("bearer 0123456789abcdef", true)]
    #[case::password("Basic cDowMTIzNDU2Nzg5YWJjZGVm", true)]
    #[case::another("Bearer 0123456789abcdeF", false)]
    #[case::a_part("Bearer 0123456789", false)]
    #[case::another_password("Basic cDpx", false)]
    #[case::not_base64("Basic !!!", false)]
    #[case::scheme("Digest 0123456789abcdef", false)]
    #[case::bare("0123456789abcdef", false)]
    fn a_token_is_known(#[case] header: &str, #[case] admitted: bool) {
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", header.parse().unwrap());
        assert_eq!(Token::new(TOKEN).unwrap().admit(request).is_ok(), admitted);
    }

    #[test]
    fn without_a_header_nobody_is_let_in() {
        assert!(Token::new(TOKEN).unwrap().admit(Request::new(())).is_err());
    }

    #[rstest]
    #[case::short("0123456789abcde", false)]
    #[case::end_of_a_file("0123456789abcdef\n", true)]
    #[case::space_within("0123456789 abcdef", false)]
    #[case::not_ascii("0123456789abcdeéé", false)]
    fn a_token_is_not_weak(#[case] text: &str, #[case] taken: bool) {
        assert_eq!(Token::new(text).is_ok(), taken);
    }
}
