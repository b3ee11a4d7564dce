//! The secret that the processes of a cluster share, and what is made of it.
//!
//! Callers also say which build of the program they are: what another build sends could mean something else here.
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
use tonic::{
    Request, Status,
    codegen::http::{HeaderMap, header::USER_AGENT},
    metadata::MetadataValue,
    service::Interceptor,
    transport::Endpoint,
};

use crate::{BUILD, Error};

/// Characters below which a secret could be guessed.
const LEAST_CHARACTERS: usize = 16;
/// How the user agent of a caller begins; its tag follows, or [`NO_TAG`].
const AGENT: &str = "eventide-cluster/";
/// In the place of a tag, where there is no secret.
const NO_TAG: &str = "open";
/// What comes before the build of a caller in its user agent.
const AGENT_BUILD: &str = "build/";
/// What comes before the port, in the user agent of an executor, at which it takes orders.
const AGENT_ORDERS: &str = "orders/";
/// The field by which a scheduler that refuses another build says which it is.
const BUILD_FIELD: &str = "eventide-build";

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

    /// What proves that a caller has the secret.
    fn tag(&self) -> String {
        hex(&self.mac("caller", "").finalize().into_bytes())
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

/// The user agent of this process.
fn agent(secret: Option<&Secret>) -> String {
    let tag = secret.map_or_else(|| NO_TAG.to_owned(), Secret::tag);
    format!("{AGENT}{tag} {AGENT_BUILD}{BUILD}")
}

/// The end of a connection to a process of the cluster, which says who calls.
pub(super) fn introduced(secret: Option<&Secret>) -> EndpointOverrideFn {
    named(agent(secret))
}

/// The same of an executor that takes orders at `port`, whatever Ballista knows.
pub(super) fn introduced_as_executor(secret: &Secret, port: u16) -> EndpointOverrideFn {
    named(format!("{} {AGENT_ORDERS}{port}", agent(Some(secret))))
}

fn named(agent: String) -> EndpointOverrideFn {
    Arc::new(move |endpoint: Endpoint| Ok(endpoint.user_agent(agent.clone())?))
}

/// The port at which an executor with this user agent takes orders, where it says so.
pub(super) fn orders_port(agent: &str) -> Option<u16> {
    agent.split(' ').find_map(|part| part.strip_prefix(AGENT_ORDERS))?.parse().ok()
}

/// The user agent of a call.
pub(super) fn agent_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok())
}

/// The build of the scheduler, where it refuses a call because the caller is another one.
pub(super) fn build_of(refusal: &Status) -> Option<String> {
    refusal.metadata().get(BUILD_FIELD)?.to_str().ok().map(str::to_owned)
}

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// It has not the secret.
    Stranger,
    /// It is not of this build, or does not say of which it is.
    OtherBuild,
}

/// Lets in whoever is of this build and has the secret, where there is one.
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

    /// Lets a caller with this user agent in, or says why not.
    pub(super) fn admit(&self, agent: Option<&str>) -> Result<(), TurnedAway> {
        let agent = agent.unwrap_or_default();
        let build = agent.split(' ').find_map(|part| part.strip_prefix(AGENT_BUILD));
        let why = if self.secret.as_ref().is_some_and(|secret| !secret.admits(agent)) {
            tracing::warn!("turned away a caller without the token of this cluster");
            TurnedAway::Stranger
        } else if build != Some(BUILD) {
            tracing::warn!(theirs = build, ours = BUILD, "turned away a caller of another build");
            TurnedAway::OtherBuild
        } else {
            return Ok(());
        };
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        Err(why)
    }

    /// The same, for a call of Ballista's.
    pub(super) fn check(&self, agent: Option<&str>) -> Result<(), Status> {
        match self.admit(agent) {
            Ok(()) => Ok(()),
            Err(TurnedAway::Stranger) => {
                Err(Status::unauthenticated("the caller has not the token of this cluster"))
            }
            Err(TurnedAway::OtherBuild) => {
                let text = format!("the caller is another build of eventide than `{BUILD}`");
                let mut refusal = Status::failed_precondition(text);
                refusal.metadata_mut().insert(BUILD_FIELD, MetadataValue::from_static(BUILD));
                Err(refusal)
            }
        }
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.check(agent_of(request.metadata().as_ref()))?;
        Ok(request)
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
    #[case::ours(secret(OURS).tag(), true)]
    #[case::another(secret("another secret of a cluster").tag(), false)]
    #[case::the_secret_itself(OURS.replace(' ', ""), false)]
    #[case::no_tag(String::new(), false)]
    #[case::no_secret(NO_TAG.to_owned(), false)]
    #[case::odd("abc".to_owned(), false)]
    #[case::not_hexadecimal("ää".to_owned(), false)]
    fn who_has_the_secret_is_let_in(#[case] tag: String, #[case] admitted: bool) {
        let agent = format!("{AGENT}{tag} build/{BUILD} tonic/0.14.9"); // as it is sent
        let verdict = if admitted { Ok(()) } else { Err(TurnedAway::Stranger) };
        assert_eq!(Guard::new(Some(secret(OURS))).admit(Some(&agent)), verdict);
        assert_eq!(Guard::new(None).admit(Some(&agent)), Ok(()), "there is nothing to have");
    }

    #[rstest]
    #[case::ours(Some(format!("{} tonic/0.14.9", agent(None))), true)]
    #[case::another(Some(format!("{AGENT}open build/9.0.0+0123456789abcdef tonic/0.14.9")), false)]
    #[case::longer(Some(format!("{}0", agent(None))), false)]
    #[case::before_builds_were_said(Some("tonic/0.14.9".to_owned()), false)]
    #[case::nobody(None, false)]
    fn who_is_of_this_build_is_let_in(#[case] agent: Option<String>, #[case] admitted: bool) {
        let verdict = if admitted { Ok(()) } else { Err(TurnedAway::OtherBuild) };
        assert_eq!(Guard::new(None).admit(agent.as_deref()), verdict);
        let stranger = Guard::new(Some(secret(OURS))).admit(agent.as_deref());
        assert_eq!(stranger, Err(TurnedAway::Stranger), "a stranger is not told the build");
    }

    #[test]
    fn an_executor_says_where_it_takes_orders() {
        let sent = format!("{} {AGENT_ORDERS}50051 tonic/0.14.9", agent(Some(&secret(OURS))));
        assert_eq!(orders_port(&sent), Some(50051));
        assert_eq!(Guard::new(Some(secret(OURS))).admit(Some(&sent)), Ok(()));
        assert_eq!(orders_port(&agent(None)), None);
        assert_eq!(orders_port("orders/70000"), None);
    }

    #[test]
    fn a_signature_is_of_one_node_and_one_secret() {
        let proof = secret(OURS).sign("node");
        assert!(secret(OURS).signed("node", &proof));
        assert!(secret(&format!(" {OURS}\n")).signed("node", &proof), "as a file has it");
        assert!(!secret(OURS).signed("other", &proof));
        assert!(!secret("another secret of a cluster").signed("node", &proof));
        assert!(!secret(OURS).signed("node", ""));
        assert!(!secret(OURS).signed("node", &secret(OURS).tag()));
    }

    #[test]
    fn what_is_made_of_a_secret_does_not_show_it() {
        let secret = secret(OURS);
        for text in [format!("{secret:?}"), secret.sign("node"), agent(Some(&secret))] {
            assert!(!text.contains(OURS) && !text.contains("horse"), "{text}");
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(matches!(Secret::new("  short  "), Err(Error::WeakSecret { .. })));
    }
}
