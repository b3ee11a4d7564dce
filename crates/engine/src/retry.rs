//! The retry rule. Trouble that may pass is tried again here, with growing pauses; what is left of it
//! fails the task with the one class of error that the scheduler tries elsewhere
//! ([`Error::into_task_error`]). Everything else that befalls a video is a row.

use std::time::Duration;

use uuid::Uuid;

use crate::Error;

/// How often and after which pauses something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retries {
    /// Pause after the first failure. Each later one is four times as long.
    pub(crate) first_pause: Duration,
    /// Tries in all; at least 1.
    pub(crate) tries: u32,
}

/// Half a minute in all, beside the minute and a half that the store's client takes for one request.
pub(crate) const RETRIES: Retries = Retries { first_pause: Duration::from_secs(1), tries: 4 };

impl Retries {
    /// Once and not again: whoever asks comes again by itself.
    pub(crate) const NONE: Self = Self { first_pause: Duration::ZERO, tries: 1 };

    /// Does `work` until it succeeds, or fails in a way that will not pass, or once too often.
    ///
    /// # Errors
    /// The last error of `work`.
    pub(crate) async fn of<T, W: Future<Output = Result<T, Error>>>(
        self,
        what: &'static str,
        mut work: impl FnMut() -> W,
    ) -> Result<T, Error> {
        let mut pause = self.first_pause;
        for attempt in 1.. {
            match work().await {
                Err(error) if error.is_transient() && attempt < self.tries => {
                    tracing::warn!(attempt, error = %error, ?pause, "cannot {what} now; trying again");
                }
                ended => return ended,
            }
            tokio::time::sleep(spread(pause)).await;
            pause *= 4;
        }
        unreachable!("the tries have an end")
    }
}

/// Between once and one and a half times the pause, so that workers do not come back all at once.
fn spread(pause: Duration) -> Duration {
    let random = u8::try_from(Uuid::now_v7().as_u128() & 0xff).unwrap_or(0);
    pause + pause * u32::from(random) / 512
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rstest::rstest;

    use super::*;

    const QUICK: Retries = Retries { first_pause: Duration::from_millis(1), tries: 4 };

    fn store(source: object_store::Error) -> Error {
        let source = eventide_pipeline::Error::Store { uri: "s3://b/v".to_owned(), source };
        Error::Pipeline { video: "v".to_owned(), source: Box::new(source) }
    }

    fn down() -> Error {
        store(object_store::Error::Generic { store: "S3", source: "503 Slow Down".into() })
    }

    fn credentials_expired() -> Error {
        store(object_store::Error::Unauthenticated {
            path: "v".to_owned(),
            source: "expired".into(),
        })
    }

    fn model_broken() -> Error {
        let source = eventide_pipeline::Error::CaptionerStopped;
        Error::Pipeline { video: "v".to_owned(), source: Box::new(source) }
    }

    /// Tries of work that fails so often, and whether it succeeded.
    async fn tried(failures: u32, error: fn() -> Error) -> (u32, bool) {
        let tries = Cell::new(0);
        let work = || {
            tries.set(tries.get() + 1);
            std::future::ready(if tries.get() <= failures { Err(error()) } else { Ok(()) })
        };
        let ended = QUICK.of("read", work).await;
        (tries.get(), ended.is_ok())
    }

    #[rstest]
    #[case::nothing_wrong(0, down as fn() -> Error, 1, true)]
    #[case::a_hiccup(2, down, 3, true)]
    #[case::credentials_being_renewed(1, credentials_expired, 2, true)]
    #[case::down_for_long(99, down, 4, false)]
    #[case::will_not_pass(99, model_broken, 1, false)]
    #[case::cancelled(99, || Error::Cancelled, 1, false)]
    #[tokio::test]
    async fn what_may_pass_is_tried_again(
        #[case] failures: u32,
        #[case] error: fn() -> Error,
        #[case] tries: u32,
        #[case] succeeds: bool,
    ) {
        assert_eq!(tried(failures, error).await, (tries, succeeds));
    }

    #[test]
    fn pauses_are_spread_by_half() {
        for _ in 0..100 {
            let pause = spread(Duration::from_secs(2));
            assert!((2000..3000).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
