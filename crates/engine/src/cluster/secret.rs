//! The secret that the processes of a cluster share, and what is made of it.
//!
//! The secret itself is never sent, written or shown. A caller proves that it has it by a tag in the
//! user agent of its calls, the one header that Ballista lets others set; whoever makes a plan signs the
//! nodes of it that are ours. Both are keyed hashes (HMAC-SHA256). They do not hide anything: what can be
//! read on the wire can be read, and the tag of a caller can be used again by whoever has read it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ballista_core::extension::EndpointOverrideFn;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tonic::{Request, Status, service::Interceptor, transport::Endpoint};

use crate::Error;

/// Characters below which a secret could be guessed.
const LEAST_CHARACTERS: usize = 16;
/// How the user agent of a caller with a secret begins; its tag follows.
const AGENT: &str = "eventide-cluster/";

/// The secret of a cluster. Without one, whoever reaches a process may use it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret of 16 characters or more; white space around it does not count.
    ///
    /// # Errors
    /// [`Error::WeakSecret`].
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.chars().count() < LEAST_CHARACTERS {
            return Err(Error::WeakSecret { least: LEAST_CHARACTERS });
        }
        Ok(Self(text.into()))
    }

    /// What proves that a plan's node was made by one who has the secret, as 64 hexadecimal digits.
    pub(super) fn sign(&self, node: &str) -> String {
        hex(&self.mac("plan", node).finalize().into_bytes())
    }

    /// Whether `proof` is the signature of `node`.
    pub(super) fn signed(&self, node: &str, proof: &str) -> bool {
        unhex(proof).is_some_and(|proof| self.mac("plan", node).verify_slice(&proof).is_ok())
    }

    /// The user agent of a caller that has the secret.
    fn agent(&self) -> String {
        format!("{AGENT}{}", hex(&self.mac("caller", "").finalize().into_bytes()))
    }

    /// Whether a user agent is that of a caller that has the secret.
    fn admits(&self, agent: &str) -> bool {
        let tag = agent.strip_prefix(AGENT).and_then(|rest| rest.split(' ').next());
        let tag = tag.and_then(unhex);
        tag.is_some_and(|tag| self.mac("caller", "").verify_slice(&tag).is_ok())
    }

    fn mac(&self, purpose: &str, text: &str) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes());
        let mac = mac.expect("a key may have any length");
        mac.chain_update(purpose).chain_update([0]).chain_update(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The end of a connection to a process of the cluster, which says who calls.
pub(super) fn introduced(secret: Option<&Secret>) -> Option<EndpointOverrideFn> {
    let agent = secret?.agent();
    Some(Arc::new(move |endpoint: Endpoint| Ok(endpoint.user_agent(agent.clone())?)))
}

/// Lets in whoever has the secret; everybody where there is none.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    secret: Option<Secret>,
    turned_away: Arc<AtomicU64>,
}

impl Guard {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self { secret, turned_away: Arc::default() }
    }

    /// Whether callers must have anything.
    pub(super) fn asks(&self) -> bool {
        self.secret.is_some()
    }

    /// How many calls were turned away.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Whether a caller with this user agent is let in.
    pub(super) fn admits(&self, agent: Option<&str>) -> bool {
        let Some(secret) = &self.secret else { return true };
        let admitted = agent.is_some_and(|agent| secret.admits(agent));
        if !admitted {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("turned away a caller without the token of this cluster");
        }
        admitted
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok());
        if self.admits(agent) {
            return Ok(request);
        }
        Err(Status::unauthenticated("the caller has not the token of this cluster"))
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // to a string, which takes everything
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const OURS: &str = "correct horse battery staple";

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    #[rstest]
    #[case::ours(Some(secret(OURS).agent()), true)]
    #[case::as_it_is_sent(Some(format!("{} tonic/0.14.9", secret(OURS).agent())), true)]
    #[case::another(Some(secret("another secret of a cluster").agent()), false)]
    #[case::the_secret_itself(Some(format!("{AGENT}{OURS}")), false)]
    #[case::no_tag(Some(AGENT.to_owned()), false)]
    #[case::odd(Some(format!("{AGENT}abc")), false)]
    #[case::not_hexadecimal(Some(format!("{AGENT}ää")), false)]
    #[case::someone_else(Some("tonic/0.14.9".to_owned()), false)]
    #[case::nobody(None, false)]
    fn who_has_the_secret_is_let_in(#[case] agent: Option<String>, #[case] admitted: bool) {
        assert_eq!(Guard::new(Some(secret(OURS))).admits(agent.as_deref()), admitted);
        assert!(Guard::new(None).admits(agent.as_deref()), "there is nothing to have");
    }

    #[test]
    fn a_signature_is_of_one_node_and_one_secret() {
        let proof = secret(OURS).sign("node");
        assert!(secret(OURS).signed("node", &proof));
        assert!(secret(&format!(" {OURS}\n")).signed("node", &proof), "as a file has it");
        assert!(!secret(OURS).signed("other", &proof));
        assert!(!secret("another secret of a cluster").signed("node", &proof));
        assert!(!secret(OURS).signed("node", ""));
        assert!(!secret(OURS).signed("node", &secret(OURS).agent()[AGENT.len()..]));
    }

    #[test]
    fn what_is_made_of_a_secret_does_not_show_it() {
        let secret = secret(OURS);
        for text in [format!("{secret:?}"), secret.sign("node"), secret.agent()] {
            assert!(!text.contains(OURS) && !text.contains("horse"), "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(matches!(Secret::new("  short  "), Err(Error::WeakSecret { .. })));
    }
}
